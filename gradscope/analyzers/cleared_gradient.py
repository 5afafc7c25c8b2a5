"""Gradients were cleared between backward and step."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from gradscope.analyzer import Analyzer
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding, Severity
from gradscope.loops import optimizer_steps
from gradscope.records import Kind, Recording, StepEnd
from gradscope.traces import Operation

MOST = 256  # steps that are looked at for a pattern

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

    A gradient accumulation that clears before each micro-batch is a warning: of as many backwards for every step, the
    same number at least `cycles` times, only the last one counts, although the loss was divided by a number.

    ## What it is not
    A batch whose loss is exactly zero (the gradients that came in were zero), a gradient scaler that skips a
    step (no step runs), clearing the gradients of a few parameters to freeze them (less than `share`), and
    dropping a bad batch now and then (the steps before it were fine). Gradients that are cleared between two
    backwards because they served another purpose: attacks on the input (it requires grad), weights that are moved for a
    second look (SAM), gradients that are read and added up by the program itself, losses that are not divided.

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
    cycles: int = field(
        default=3,
        metadata={"unit": "steps", "reason": "a batch or two may have been dropped, and not each time as many"},
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each optimizer all of whose steps found their gradients cleared."""
        first: dict[Owner, tuple[int, LoopEvent]] = {}
        for step in recording.notable:
            for event in step.events:
                if self._lost(event):
                    first.setdefault(_owner(event), (step.index, event))
        steps = (event for step in recording.steps if first for event in optimizer_steps(step))
        sound = {_owner(event) for event in steps if not self._lost(event)}
        for owner, (index, event) in first.items():
            if owner not in sound:
                yield self._found(index, event)
        number = _thrown_away(recording, self.cycles)
        if number and not first and recording.once(_is_part_of_a_batch):
            yield self._of_a_part(recording, number)

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

    def _of_a_part(self, recording: Recording, number: int) -> Finding:
        step = next(step for step in recording.steps if step.end is StepEnd.OPTIMIZER)
        event = optimizer_steps(step)[0]
        return self.finding(
            severity=Severity.WARNING,
            step=0,
            message=f"of {number + 1} backwards for each {event.optimizer}.step(), only the last one counts",
            evidence=f"before each step, gradients were cleared {number} times without having been used, and each loss "
            "was divided by a number",
            why="the gradient is that of one micro-batch, and smaller by their number",
            fix="call optimizer.zero_grad() once per step, after optimizer.step(), and not before each micro-batch",
            location=event.location,
            cause="part",
        )


def _thrown_away(recording: Recording, cycles: int) -> int:
    """How many backwards are thrown away before each step of an optimizer, if most often it is one number; else 0."""
    if not recording.steps or recording.steps[0].end is not StepEnd.CLEARED:
        return 0
    counts, thrown = list[int](), 0
    for step in recording.steps[:MOST]:
        if step.end is StepEnd.CLEARED:
            thrown += 1
        elif step.end is StepEnd.OPTIMIZER:
            counts, thrown = [*counts, thrown], 0
    usual = max(counts, key=counts.count, default=0)
    return usual if counts.count(usual) >= cycles and 2 * counts.count(usual) > len(counts) else 0


def _is_part_of_a_batch(recording: Recording) -> bool:
    """Whether the traced loss was divided by a number, and its gradients serve no other purpose."""
    losses = [each for each in recording.operations if each.is_loss]
    divided = bool(losses) and all(_is_divided(each, recording.operations) for each in losses)
    shapes = {site.shape for site in recording.sites_of(Kind.PARAMETER)}
    return divided and not any(_serves(each, losses[0], shapes) for each in recording.operations)


def _is_divided(loss: Operation, operations: tuple[Operation, ...]) -> bool:
    """Whether a loss, or what a scaler has multiplied, is a quotient with a number."""
    if loss.name == "mul" and len(loss.operands) > 1:
        made = loss.operands[0].operation
        loss = next((each for each in operations if each.index == made), loss)
    return loss.name == "div" and len(loss.operands) == 1


def _serves(operation: Operation, loss: Operation, shapes: Collection[tuple[int, ...]]) -> bool:
    """Whether it tells of another purpose: an input that requires grad, a weight moved by hand, a gradient read.

    `shapes` are those of the parameters.
    """
    strangers = [each for each in operation.operands if each.operation is None and not each.parameter]
    if operation.written or any(each.has_graph for each in strangers):
        return True
    after = loss.backward is not None and operation.index >= loss.backward and not operation.name.startswith("zero_")
    return after and any(each.shape and each.shape in shapes for each in strangers)


def _owner(event: LoopEvent) -> Owner:
    return event.optimizer, event.parameters
