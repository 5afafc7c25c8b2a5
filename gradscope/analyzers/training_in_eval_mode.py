"""A model trains while its dropout and batch norm are in evaluation mode."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding, Severity, summary
from gradscope.records import Recording


@dataclass(frozen=True)
class TrainingInEvalMode(Analyzer):
    """Optimizer steps while the whole model, its dropout and batch norm among it, is in evaluation mode.

    ## What it means
    `model.eval()` was called and `model.train()` was not called again: after the last validation, or after
    loading a pretrained model that comes in evaluation mode.

    ## Why it matters
    Dropout does nothing, so the model overfits more than it should. Batch norm uses the statistics it has and does not
    update them, so those of a fresh model stay mean 0 and variance 1 for ever.

    ## How it is measured
    In each observed step: the watched model was in evaluation mode when the backward began and when the optimizer
    had stepped, and so was every module whose parameters the optimizer moved; among the modules that ran and
    whose output requires grad, some behave otherwise in training (dropout with p above zero, batch norm with
    running statistics). It counts after `steps` observed steps in a row.

    ## What it is not
    Batch norm that is frozen on purpose while the model is in training mode, a frozen backbone in evaluation mode
    below a head that learns, dropout with p = 0, validation under `no_grad`, gradients that no optimizer uses
    (saliency, attacks), and a single step in evaluation mode, as in a test.

    ## How to fix it
    Call `model.train()` before the training loop, and again after each validation.

    ## Fires on
    >>> from gradscope.testing import recording, step_event
    >>> quiet = step_event(parameters=2, evaluating=("drop",))
    >>> for found in TrainingInEvalMode().analyze(recording(steps=3, events={i: [quiet] for i in range(3)})):
    ...     print(found)
    ERROR    training-in-eval-mode   since step 0   'drop'
             SGD.step() trains a model in evaluation mode, in which 'drop' is not what it is in training
             measured: 3 observed steps in a row in evaluation mode (limit 3), with 1 module to which the mode matters
             why: dropout does nothing then, and batch norm neither uses nor learns the statistics of the batch
             fix: call model.train() before the training loop, and again after each validation

    ## Silent on
    >>> list(TrainingInEvalMode().analyze(recording(steps=3, events={0: [step_event()], 1: [quiet], 2: [quiet]})))
    []

    ## Sources
    - PyTorch, "torch.nn.Module.train", https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
    - Hong et al., "Investigating and Detecting Silent Bugs in PyTorch Programs", SANER 2024: 27 of 365 posts are
      about evaluation mode.
    """

    severity: ClassVar[Severity] = Severity.ERROR

    steps: int = field(
        default=3,
        metadata={
            "unit": "observed steps in a row",
            "reason": "tests take a step or two in evaluation mode so that nothing is random",
        },
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding, at the first of the steps in evaluation mode."""
        begin, length = 0, 0
        for step in recording.observed:
            stepped = [event for event in step.events if event.kind is EventKind.STEP]
            quiet = [event for event in stepped if event.evaluating]
            if stepped and not quiet:
                length = 0
            if quiet:
                begin = begin if length else step.index
                length += 1
            if quiet and length >= self.steps:
                yield self._found(begin, length, quiet[0])
                return

    def _found(self, step: int, length: int, event: LoopEvent) -> Finding:
        number = len(event.evaluating)
        names = summary(tuple(map(repr, event.evaluating)))
        return self.finding(
            step=step,
            message=f"{event.optimizer}.step() trains a model in evaluation mode, in which {names} "
            f"{'are not what they are' if number > 1 else 'is not what it is'} in training",
            evidence=f"{length} observed steps in a row in evaluation mode (limit {self.steps}), "
            f"with {number} module{'s' * (number > 1)} to which the mode matters",
            why="dropout does nothing then, and batch norm neither uses nor learns the statistics of the batch",
            fix="call model.train() before the training loop, and again after each validation",
            sites=event.evaluating,
            location=event.location,
        )
