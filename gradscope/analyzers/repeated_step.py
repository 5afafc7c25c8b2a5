"""An optimizer stepped a second time on the same gradients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.events import LoopEvent
from gradscope.findings import Finding, Severity
from gradscope.loops import first_misuses
from gradscope.records import Recording


@dataclass(frozen=True)
class RepeatedStep(Analyzer):
    """An optimizer stepped, and every gradient it used was one that its last step had used, unchanged.

    ## What it means
    `optimizer.step()` ran twice with no `loss.backward()` in between: a second call behind the first, or a step in
    every iteration of a loop whose backward runs only now and then.

    ## Why it matters
    The weights go on in an old direction, like a learning rate that is twice as high. Adam's averages count the
    gradient twice, and schedules that count steps run ahead.

    ## How it is measured
    At every step of every optimizer: has none of its parameters received a gradient since its last step, and are the
    gradients it uses the same tensors, not written to and not zero? The answer is yes or no; there is no threshold.

    ## What it is not
    The closures of L-BFGS (backwards run inside the step), sharpness-aware minimisation (its second pass brings new
    gradients), accumulation (many backwards, one step), optimizers that call others in their step, a step after
    the gradients were cleared, and an optimizer some of whose parameters have new gradients.

    ## How to fix it
    Call `optimizer.step()` once after each `loss.backward()`, in the same block.

    ## Fires on
    >>> from gradscope.testing import recording, step_event
    >>> again = step_event(parameters=2, repeated=("fc.weight", "fc.bias"))
    >>> for found in RepeatedStep().analyze(recording(events={0: [step_event(), again]})):
    ...     print(found)
    ERROR    repeated-step   since step 0   2 of 2 parameters
             SGD.step() ran once more on gradients that its last step had used
             measured: 2 gradients were the same tensors, unchanged, and no backward ran in between
             why: each gradient moves the weights more than once, like a learning rate that is too high
             fix: call optimizer.step() once after each loss.backward(), in the same block

    ## Silent on
    >>> list(RepeatedStep().analyze(recording(events={0: [step_event()], 1: [step_event()]})))
    []

    ## Sources
    - PyTorch, "torch.optim: Taking an optimization step", https://docs.pytorch.org/docs/stable/optim.html
    - Hong et al., "Investigating and Detecting Silent Bugs in PyTorch Programs", SANER 2024: training
      operations that are missing or in the wrong place are the second most frequent cause (56 of 365 posts).
    """

    severity: ClassVar[Severity] = Severity.ERROR
    every_step: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"exploding-gradient", "oversized-update"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each optimizer, at the first step that it repeated."""
        for step, event in first_misuses(recording, lambda event: event.repeated):
            yield self._found(step, event)

    def _found(self, step: int, event: LoopEvent) -> Finding:
        number = len(event.repeated)
        tensors = "gradients were the same tensors" if number > 1 else "gradient was the same tensor"
        return self.finding(
            step=step,
            message=f"{event.optimizer}.step() ran once more on gradients that its last step had used",
            evidence=f"{number} {tensors}, unchanged, and no backward ran in between",
            why="each gradient moves the weights more than once, like a learning rate that is too high",
            fix="call optimizer.step() once after each loss.backward(), in the same block",
            sites=event.repeated,
            scope=f"{number} of {event.parameters} parameters",
            location=event.location,
            cause=event.stepper,
        )
