"""Pure questions about what the training loop did."""

from collections.abc import Callable, Iterator

from gradscope.events import EventKind, LoopEvent
from gradscope.records import Recording, Step


def optimizer_steps(step: Step) -> list[LoopEvent]:
    """The optimizers' steps in a step, in their order."""
    return [event for event in step.events if event.kind is EventKind.STEP]


def first_misuses(
    recording: Recording, misused: Callable[[LoopEvent], tuple[str, ...]]
) -> Iterator[tuple[int, LoopEvent]]:
    """Of each optimizer the first step that has used gradients wrongly, as `misused` tells, with its number."""
    known = set[str]()
    for step in recording.notable:
        for event in optimizer_steps(step):
            if misused(event) and event.stepper not in known:
                known.add(event.stepper)
                yield step.index, event
