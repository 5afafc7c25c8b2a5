"""A weight was changed between the forward that used it and the backward."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.traces import Location, Operation

Edit: TypeAlias = tuple[str, Operation, Operation]


@dataclass(frozen=True)
class EditedWeight(Analyzer):
    """A weight was changed after the forward had used it and before the backward, where autograd cannot notice.

    ## What it means
    The loss was computed with one weight, and the backward finds another one in its place. Autograd notices a
    change in place by a counter, but `.data` does not count, nor does it notice where it has saved nothing.

    ## Why it matters
    The gradient belongs to no function: it mixes the values of the forward with the weights of afterwards.
    Nothing fails, and training converges badly or to something else.

    ## How it is measured
    In a traced step: the last operation that used the weight on the way to a loss ran before it was written to,
    and that before the backward of this loss began. It must be a weight that an optimizer steps.

    ## What it is not
    Changes before the forward (constraints, masks, weights that are normalised when they are used), changes after
    the backward (clamped weights, averages, sharpness-aware minimisation), a weight that is used again after the
    change (a constraint inside a module that runs twice), averaged copies and codebooks, which no gradient reaches.

    ## How to fix it
    Change the weight after `optimizer.step()`, or before the forward, and inside `torch.no_grad()` instead of
    through `.data`: then autograd notices what it must not miss.

    ## Fires on
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.testing import recording
    >>> from gradscope.traces import Operand
    >>> weight = Operand((4, 4), None, "fc.weight", True)
    >>> hidden = Operand((5, 4), 0, has_graph=True)
    >>> loss = Operation(1, "mean", operands=(hidden,), has_graph=True, is_loss=True, backward=3)
    >>> linear = Operation(0, "linear", module="fc", operands=(weight,), has_graph=True)
    >>> edit = Operation(2, "mul_", written="fc.weight")
    >>> known = ParameterInfo("fc.weight", "fc", optimizer_steps=1, contributions=1)
    >>> made = recording(operations=(linear, loss, edit), parameters=(known,))
    >>> for found in EditedWeight().analyze(made):
    ...     print(found)
    ERROR    edited-weight   since step 0   1 of 1 parameters
             mul_ changes 'fc.weight' after the forward has used it and before the backward
             measured: linear used it, then it was written to, and then the backward of this loss began
             why: its gradient, and all that is computed with it, mixes old values with new ones
             fix: change it after optimizer.step() or before the forward, in torch.no_grad() and not through .data

    ## Silent on
    >>> from dataclasses import replace
    >>> after = replace(loss, backward=2)
    >>> list(EditedWeight().analyze(recording(operations=(linear, after, edit), parameters=(known,))))
    []

    ## Sources
    - PyTorch, "Autograd mechanics", in-place operations with autograd,
      https://docs.pytorch.org/docs/stable/notes/autograd.html#in-place-operations-with-autograd
    - Hong et al., "Investigating and Detecting Silent Bugs in PyTorch Programs", SANER 2024: `.data` is one of
      its patterns.
    """

    severity: ClassVar[Severity] = Severity.ERROR

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each line that changes weights."""
        lines: dict[tuple[Location | None, str], list[Edit]] = {}
        for edit in recording.once(_edits):
            lines.setdefault((edit[1].location, edit[1].name), []).append(edit)
        for (place, name), edits in lines.items():
            paths = tuple(path for path, _, _ in edits)
            subject, it = (repr(paths[0]), "it") if len(paths) == 1 else (f"{len(paths)} parameters", "them")
            _, written, used = edits[0]
            yield self.finding(
                step=written.step,
                message=f"{_called(name)} changes {subject} after the forward has used {it} and before the backward",
                evidence=f"{used.name} used {'it' if len(paths) == 1 else 'the first'}, then it was written to, and "
                "then the backward of this loss began",
                why="its gradient, and all that is computed with it, mixes old values with new ones",
                fix="change it after optimizer.step() or before the forward, in torch.no_grad() and not through .data",
                sites=paths,
                scope=f"{len(paths)} of {len(recording.parameters)} parameters",
                location=place,
                cause=str(place or name),
            )


def _edits(recording: Recording) -> tuple[Edit, ...]:
    """Each weight with the operation that changed it in between, and the one that had used it."""
    operations = recording.operations
    trained = {parameter.path for parameter in recording.parameters if parameter.optimizer_steps}
    found: dict[str, Edit] = {}
    written = [each for each in operations if each.written in trained]
    for loss in (each for each in operations if written and each.backward is not None):
        used = _last_uses(operations, loss)
        for edit in written:
            last = used.get(edit.written)
            if last is not None and loss.backward is not None and last.index < edit.index < loss.backward:
                found.setdefault(edit.written, (edit.written, edit, last))
    return tuple(found.values())


def _last_uses(operations: tuple[Operation, ...], loss: Operation) -> dict[str, Operation]:
    """The last operation by which each parameter came into a loss, on a way that has a graph."""
    by_index = {each.index: each for each in operations}
    stack, seen, last = [loss.index], set[int](), dict[str, Operation]()
    while stack:
        index = stack.pop()
        if index in seen or index not in by_index or not by_index[index].has_graph:
            continue
        seen.add(index)
        operation = by_index[index]
        for operand in operation.operands:
            if operand.parameter and (operand.parameter not in last or last[operand.parameter].index < index):
                last[operand.parameter] = operation
            if operand.operation is not None and operand.has_graph:
                stack.append(operand.operation)
    return last


def _called(name: str) -> str:
    return "setting .data" if name == "data_" else "an assignment" if name == "__setitem__" else name
