"""Where gradients become exactly zero: parameters that receive nothing but zeros, and the operations that make them so.

Pure functions of a recording.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradscope.dataflow import FLAT, VIEWS, Flow, flow_of
from gradscope.records import Floats, Kind, ParameterInfo, Recording, Statistic, StepEnd
from gradscope.traces import Operand, Operation, Range

Table: TypeAlias = NDArray[np.bool_]

FIRST = 3
LATER = 20
ZERO = Range(0.0, 0.0)

# Their result is zero, and so is their derivative, where the input is not above zero (or, as of gelu, far below).
RECTIFIERS = frozenset(
    {"clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_", "gelu", "hardshrink", "hardswish", "hardswish_"}
    | {"maximum", "relu", "relu_", "relu6", "relu6_", "rrelu", "softshrink", "threshold", "threshold_"}
)

# Their derivative is zero beyond a range, or too small to be told from zero in floating point.
BOUNDED = frozenset(
    {"clamp", "clamp_", "clip", "clip_", "hardsigmoid", "hardsigmoid_", "hardtanh", "hardtanh_", "relu6", "relu6_"}
    | {"erf", "sigmoid", "sigmoid_", "softsign", "tanh", "tanh_"}
)


@dataclass(frozen=True, slots=True)
class Idle:
    """A parameter whose gradient was exactly zero since step `since`, in the last `rows` steps that measured it."""

    parameter: ParameterInfo
    since: int
    rows: int


@dataclass(frozen=True, slots=True)
class Stall:
    """An operation that a gradient arrives at and nothing but zeros leaves, and the idle parameters behind it."""

    operation: Operation
    victims: tuple[Idle, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Full names of the parameters."""
        return tuple(victim.parameter.path for victim in self.victims)

    @property
    def since(self) -> int:
        """The first step of the one that stands still longest."""
        return min(victim.since for victim in self.victims)

    @property
    def rows(self) -> int:
        """In how many observed steps all of them stood still."""
        return min(victim.rows for victim in self.victims)


def idle(recording: Recording) -> tuple[Idle, ...]:
    """Trainable parameters that an optimizer steps and that receive nothing but zeros.

    From the first observed step on, for `FIRST` steps at least, or in the last `LATER` observed ones. Steps that a
    loss scaler skipped do not count.
    """
    return recording.once(_idle)


def stalls(recording: Recording) -> tuple[Stall, ...]:
    """The traced operations that make idle parameters' gradients zero, in the order of the trace.

    A parameter whose gradient dies at several operations is a victim of each.
    """
    return recording.once(_stalls)


def untraced(recording: Recording) -> tuple[Idle, ...]:
    """Idle parameters of which the last trace tells nothing, because they went still only later."""
    step = _traced_step(recording)
    return tuple(each for each in idle(recording) if each.since > step)


def multiplies_zeros(recording: Recording, operation: Operation) -> bool:
    """Whether two of its operands are all zero and receive only zeros; biases, which are added, do not count."""
    flow, zeros = flow_of(recording.operations), _zero_valued(recording)
    return sum(_is_silent(flow, operand, zeros) for operand in operation.operands) > 1


def is_dead(stall: Stall) -> bool:
    """Whether all that a rectifier lets through is zero."""
    return _lets_nothing_through(stall.operation)


def first_dead(recording: Recording, dead: Operation) -> Operation:
    """Where a dead rectifier was given zeros by another one, straight before it, the one that the zeros come from."""
    flow, first, made = flow_of(recording.operations), dead, {dead.index}
    while len(made) == 1:
        operation = flow.by_index[made.pop()]
        if _lets_nothing_through(operation):
            first = operation
        made = {
            operand.operation for operand in operation.operands if operand.operation is not None and operand.has_graph
        }
    return first


def is_saturated(stall: Stall) -> bool:
    """Whether it is a function with flat ends."""
    return stall.operation.name in BOUNDED and not is_dead(stall)


def is_flat(stall: Stall) -> bool:
    """Whether its derivative is zero everywhere."""
    return stall.operation.name in FLAT


def wakes_others(recording: Recording, stall: Stall) -> bool:
    """Whether it matters that nothing comes through: parameters follow it, or the loss that follows it is not zero.

    Else it may be a hinge that is satisfied.
    """
    flow = flow_of(recording.operations)
    after = flow.downstream([stall.operation])
    follows = any(operand.parameter for each in after if each is not stall.operation for operand in each.operands)
    return follows or any(each.is_loss and each.values not in (None, ZERO) for each in after)


def source_values(recording: Recording, operation: Operation) -> Range | None:
    """What the first operand of an operation held, seen through views."""
    flow = flow_of(recording.operations)
    index = operation.operands[0].operation if operation.operands else None
    while index is not None and flow.by_index[index].values is None and flow.by_index[index].name in VIEWS:
        operands = flow.by_index[index].operands
        index = operands[0].operation if operands else None
    return None if index is None else flow.by_index[index].values


def _lets_nothing_through(operation: Operation) -> bool:
    return operation.name in RECTIFIERS and operation.values == ZERO


def _idle(recording: Recording) -> tuple[Idle, ...]:
    columns = _suspects(recording)
    if not columns:
        return ()
    used = np.array([step.end is not StepEnd.CLEARED for step in recording.observed], bool)[:, None]
    kind = Kind.PARAMETER_GRADIENT
    measured = used & (recording.values(kind, Statistic.COUNT, columns) > 0)
    zero = recording.values(kind, Statistic.ABS_MAX, columns) == 0
    sites = recording.sites_of(kind)
    streaks = {sites[c].path: _streak(recording, measured[:, i], zero[:, i]) for i, c in enumerate(columns)}
    written = flow_of(recording.operations).written
    optimized = any(parameter.optimizer_steps for parameter in recording.parameters)
    fed = (p for p in recording.parameters if p.trainable and p.contributions and (p.optimizer_steps or not optimized))
    found = ((p, streaks[p.path]) for p in fed if p.path in streaks and p.path not in written)
    return tuple(Idle(p, *streak) for p, streak in found if streak is not None)


def _suspects(recording: Recording) -> list[int]:
    """The columns of the gradients of which the last observed step shows none that is not zero, if any shows zeros."""
    if len(recording.observed) < FIRST:
        return []
    highest: Floats = recording.at(-1, Kind.PARAMETER_GRADIENT, Statistic.ABS_MAX)
    return np.flatnonzero((highest == 0) | np.isnan(highest)).tolist() if len(highest) else []


def _streak(recording: Recording, measured: Table, zero: Table) -> tuple[int, int] | None:
    """Since which step and in how many observed ones it has been zero, if that is long enough."""
    rows = np.flatnonzero(measured)
    moving = np.flatnonzero(~zero[rows])
    still = rows[moving[-1] + 1 :] if len(moving) else rows
    if len(still) < (LATER if len(moving) else FIRST):
        return None
    return recording.observed[still[0]].index, len(still)


def _stalls(recording: Recording) -> tuple[Stall, ...]:
    still = idle(recording)
    if not still or not recording.operations:
        return ()
    flow, step = flow_of(recording.operations), _traced_step(recording)
    found: dict[int, tuple[Operation, list[Idle]]] = {}
    for each in still:
        names = (each.parameter.path, *each.parameter.aliases)
        for operation in _ends(flow, names) if each.since <= step else _shut(recording, flow, names, each.since):
            found.setdefault(operation.index, (operation, []))[1].append(each)
    return tuple(Stall(operation, tuple(victims)) for _, (operation, victims) in sorted(found.items()))


def _traced_step(recording: Recording) -> int:
    """The step in which the last trace saw a backward begin; -1 without one."""
    return max((loss.step for loss in flow_of(recording.operations).losses), default=-1)


def _ends(flow: Flow, names: Iterable[str]) -> list[Operation]:
    """On the ways from a parameter to the loss, the first operations whose results received more than zeros."""
    return _first(flow, names, lambda operation: operation.gradient not in (None, ZERO))


def _shut(recording: Recording, flow: Flow, names: Iterable[str], since: int) -> list[Operation]:
    """Rectifiers on all ways from a parameter to the loss that let nothing through since a step after the trace."""
    found = _first(flow, names, lambda operation: operation.is_loss or _is_shut(recording, flow, operation, since))
    return [] if any(each.is_loss for each in found) else [replace(each, values=ZERO) for each in found]


def _first(flow: Flow, names: Iterable[str], chosen: Callable[[Operation], bool]) -> list[Operation]:
    """The first operations of a kind on the ways from a parameter to the loss."""
    stack = [edge for name in names for edge in flow.uses.get(name, ())]
    seen, found = set[int](), list[Operation]()
    while stack:
        operand, operation = stack.pop()
        if operation.index in seen or operation.index not in flow.toward_loss or not flow.passes(operand, operation):
            continue
        seen.add(operation.index)
        if chosen(operation):
            found.append(operation)
        else:
            stack.extend(flow.edges.get(operation.index, ()))
    return found


def _is_shut(recording: Recording, flow: Flow, operation: Operation, since: int) -> bool:
    """Whether a rectifier gave only zeros, or was given nothing above zero, in all observed steps since this one."""
    if operation.name not in RECTIFIERS or not operation.operands:
        return False
    source = flow.origin(operation.operands[0])
    columns = {site.path: column for column, site in enumerate(recording.sites_of(Kind.ACTIVATION))}
    fed_by = columns.get(source.module) if source is not None and source.module != operation.module else None
    column = columns.get(operation.module) if fed_by is None else fed_by
    if column is None:
        return False
    rows = np.array([step.index >= since for step in recording.observed], bool)
    highest = recording.values(Kind.ACTIVATION, Statistic.MAX if fed_by is not None else Statistic.ABS_MAX, [column])
    return bool(rows.any()) and bool((highest[rows] <= 0).all())


def _zero_valued(recording: Recording) -> frozenset[str]:
    """Paths of the idle parameters that hold nothing but zeros."""
    sites: Sequence[str] = [site.path for site in recording.sites_of(Kind.PARAMETER)]
    highest = dict(zip(sites, recording.at(-1, Kind.PARAMETER, Statistic.ABS_MAX).tolist(), strict=True))
    return frozenset(each.parameter.path for each in idle(recording) if highest.get(each.parameter.path) == 0)


def _is_silent(flow: Flow, operand: Operand, zeros: frozenset[str]) -> bool:
    if operand.parameter:
        return operand.parameter in zeros and not operand.parameter.endswith("bias")
    made = None if operand.operation is None else flow.by_index[operand.operation]
    return made is not None and operand.has_graph and made.gradient == ZERO and made.values == ZERO
