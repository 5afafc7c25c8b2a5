"""A step used gradients that an earlier step had already used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.events import LoopEvent
from gradscope.findings import Finding, Severity
from gradscope.loops import first_misuses
from gradscope.records import Recording
from gradscope.traces import Location


@dataclass(frozen=True)
class UnzeroedGradient(Analyzer):
    """A step used gradients that an earlier step had already used, because nobody cleared them.

    ## What it means
    PyTorch adds each backward's gradient to `.grad`. Where the gradients of the last step are not cleared
    first, the next step sees the sum of both, the one after it the sum of three, and so on.

    ## Why it matters
    Nothing fails and the loss may even fall for a while, but the direction of each step is an average over
    old weights and its length grows with every step. At small learning rates the loss curve does not show it.

    ## How it is measured
    At every step of every optimizer: had an earlier step already used what a gradient held when the backward
    began, and was that neither None nor zero? The answer is yes or no; there is no threshold.

    ## What it is not
    Accumulation over micro-batches (no step in between), the closures of L-BFGS, a generator's backward that
    also fills the discriminator's gradients (cleared before the discriminator's own step), and sharpness-aware
    minimisation, which clears between its two passes. It is judged when the step runs, so all of these pass.

    ## How to fix it
    Call `optimizer.zero_grad()` once per step, before `loss.backward()`. With several optimizers, clear the
    gradients of each before the backward that it steps on.

    ## Fires on
    >>> from gradscope.testing import recording, step_event
    >>> again = step_event(parameters=2, reused=("fc.weight", "fc.bias"))
    >>> for found in UnzeroedGradient().analyze(recording(events={0: [step_event()], 1: [again]})):
    ...     print(found)
    ERROR    unzeroed-gradient   since step 1   2 of 2 parameters
             SGD.step() used gradients that an earlier step had already used
             measured: 2 gradients were neither None nor zero when the backward of step 1 began
             why: every step repeats the steps before it, like a learning rate that keeps growing
             fix: call optimizer.zero_grad() once per step, before loss.backward()

    ## Silent on
    >>> list(UnzeroedGradient().analyze(recording(events={0: [step_event()], 1: [step_event()]})))
    []

    ## Sources
    - PyTorch, "Zeroing out gradients in PyTorch",
      https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html
    - Jiang et al., "Training with Confidence: Catching Silent Errors in Deep Learning Training with Automated
      Proactive Checks", OSDI 2025, has the missing `zero_grad` among its 20 real errors.
    """

    severity: ClassVar[Severity] = Severity.ERROR
    every_step: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"exploding-gradient", "leaked-gradient"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each optimizer that used old gradients, at its first such step."""
        for step, event in first_misuses(recording, lambda event: event.reused):
            yield self._found(recording, step, event)

    def _found(self, recording: Recording, step: int, event: LoopEvent) -> Finding:
        who = f"{event.optimizer}.step()" if event.optimizer else "the update of the weights"
        fix = "call optimizer.zero_grad() once per step, before loss.backward()"
        number = len(event.reused)
        gradients = "gradients were" if number > 1 else "gradient was"
        return self.finding(
            step=step,
            message=f"{who} used gradients that an earlier step had already used",
            evidence=f"{number} {gradients} neither None nor zero when the backward of step {step} began",
            why="every step repeats the steps before it, like a learning rate that keeps growing",
            fix=fix if event.optimizer else "set each parameter's .grad to None after the update",
            sites=event.reused,
            scope=f"{number} of {event.parameters} parameters",
            location=event.location if event.optimizer else _written(recording, event.reused),
            cause=event.stepper,
        )


def _written(recording: Recording, paths: Sequence[str]) -> Location | None:
    """The line that moves these parameters by hand: such an update is noticed only when the next forward begins."""
    written = (each for each in reversed(recording.operations) if each.written in paths)
    return next((each.location for each in written), None)
