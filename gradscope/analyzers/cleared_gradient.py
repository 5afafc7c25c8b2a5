"""Gradients were cleared between backward and step."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from gradscope.analyzer import Analyzer
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding, Severity
from gradscope.records import Recording

Owner: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class ClearedGradient(Analyzer):
    """Gradients were cleared after the backward and before the step, so the step had nothing to work with.

    ## What it means
    `loss.backward()` filled the gradients, then something, mostly `optimizer.zero_grad()` in the wrong place,
    emptied them, and only then `optimizer.step()` ran.

    ## Why it matters
    The weights do not move, or only by momentum and weight decay. The loss is flat and nothing fails.

    ## How it is measured
    At every step of every optimizer: which of its parameters have received a gradient since its last step,
    and whose gradient is None or zero nevertheless? It counts when they are at least `share` of what the
    optimizer owns, in each of its steps so far.

    ## What it is not
    A batch whose loss is exactly zero (the gradients that came in were zero), a gradient scaler that skips a
    step (no step runs), clearing the gradients of a few parameters to freeze them (less than `share`), and
    dropping a bad batch now and then (the steps before it were fine).

    ## How to fix it
    Call `optimizer.zero_grad()` before `loss.backward()` or after `optimizer.step()`, never in between.

    ## Fires on
    >>> from gradscope.testing import recording, step_event
    >>> empty = step_event(parameters=2, cleared=("fc.weight", "fc.bias"))
    >>> for found in ClearedGradient().analyze(recording(steps=1, events={0: [empty]})):
    ...     print(found)
    ERROR    cleared-gradient   since step 0   2 of 2 parameters
             the gradients were cleared after the backward and before SGD.step()
             measured: 2 of 2 parameters had received a gradient, which was None or zero when the step ran
             why: the step had nothing to work with, so the weights do not learn from the loss
             fix: call optimizer.zero_grad() before loss.backward() or after the step, not in between

    ## Silent on
    >>> list(ClearedGradient().analyze(recording(steps=1, events={0: [step_event()]})))
    []

    ## Sources
    - PyTorch, "Zeroing out gradients in PyTorch",
      https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html
    - Hong et al., "Investigating and Detecting Silent Bugs in PyTorch Programs", SANER 2024: training
      operations that are missing or in the wrong place are the second most frequent cause (56 of 365 posts).
    """

    severity: ClassVar[Severity] = Severity.ERROR
    every_step: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"unused-parameter", "detached-tensor"})

    share: float = field(
        default=0.5,
        metadata={
            "unit": "share of the optimizer's parameters",
            "reason": "clearing the gradients of a few parameters is a common way to freeze them",
        },
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each optimizer all of whose steps found their gradients cleared."""
        first: dict[Owner, tuple[int, LoopEvent]] = {}
        for step in recording.notable:
            for event in step.events:
                if self._lost(event):
                    first.setdefault(_owner(event), (step.index, event))
        events = (event for step in recording.steps if first for event in step.events)
        sound = {_owner(event) for event in events if event.kind is EventKind.STEP and not self._lost(event)}
        for owner, (index, event) in first.items():
            if owner not in sound:
                yield self._found(index, event)

    def _lost(self, event: LoopEvent) -> bool:
        """Whether an optimizer stepped, and found the gradients cleared."""
        lost = bool(event.cleared) and len(event.cleared) >= self.share * event.parameters
        return lost and event.kind is EventKind.STEP

    def _found(self, step: int, event: LoopEvent) -> Finding:
        scope = f"{len(event.cleared)} of {event.parameters} parameters"
        return self.finding(
            step=step,
            message=f"the gradients were cleared after the backward and before {event.optimizer or 'optimizer'}.step()",
            evidence=f"{scope} had received a gradient, which was None or zero when the step ran",
            why="the step had nothing to work with, so the weights do not learn from the loss",
            fix="call optimizer.zero_grad() before loss.backward() or after the step, not in between",
            sites=event.cleared,
            scope=scope,
            location=event.location,
            cause=event.stepper,
        )


def _owner(event: LoopEvent) -> Owner:
    return event.optimizer, event.parameters
