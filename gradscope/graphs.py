"""How parameters hang on the loss: which are starved of gradients, and where the graph is cut. Pure functions."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

import numpy as np

from gradscope.records import Call, Floats, Kind, ParameterInfo, Recording, Site, Statistic, StepEnd
from gradscope.traces import Operation

Paths: TypeAlias = tuple[str, ...]

SAME = 1e-6
INDEX = attrgetter("index")
EXITS = frozenset({"item", "tolist", "numpy", "__array__", "__float__", "__int__"})


@dataclass(frozen=True, slots=True)
class Gap:
    """A cut told from module facts alone: no gradient up to `above`, gradients again from `below` on.

    Both are module paths. `above` is the last module before the cut.
    """

    above: str
    below: str
    victims: tuple[ParameterInfo, ...]


def starved(recording: Recording) -> tuple[ParameterInfo, ...]:
    """Trainable parameters that should have received a gradient by now and never did, while others have.

    Parameters of an optimizer that has not stepped yet are not judged while another one has, and neither
    are those that something else than an optimizer moves, as an averaged codebook.
    """
    trainable = [parameter for parameter in recording.parameters if parameter.trainable]
    hungry = [parameter for parameter in trainable if not parameter.contributions]
    if not hungry or len(hungry) == len(trainable):
        return ()
    if any(parameter.optimizer_steps for parameter in trainable):
        hungry = [parameter for parameter in hungry if parameter.optimizer_steps]
    elif not recording.complete and all(step.end is StepEnd.OPEN for step in recording.steps):
        return ()
    moved = _moved(recording) if hungry else frozenset()
    return tuple(parameter for parameter in hungry if parameter.path not in moved)


def ran(recording: Recording, flags: Call = Call.GRAD | Call.NO_GRAD) -> frozenset[str]:
    """Paths of the modules that ran in some observed step, in one of the modes that `flags` names."""
    rows = np.flatnonzero((recording.calls & flags).any(axis=0))
    return frozenset(recording.modules[row].path for row in rows)


def ancestors(path: str) -> frozenset[str]:
    """The modules that contain this one, itself and the root ("") included."""
    parts = path.split(".")
    return frozenset({""} | {".".join(parts[:end]) for end in range(1, len(parts) + 1)})


def cuts(recording: Recording, parameters: Collection[ParameterInfo]) -> dict[Operation, Paths]:
    """The traced operations that cut parameters off from the loss, each with those whose first cut it is.

    A cut lies between a parameter and the loss, and its result has no graph; the operations of one stretch
    without grad mode count as one. Where values leave the tensors (`tolist`) the trace ends; that counts as a
    cut if the modules tell of one, too.
    """
    operations = recording.operations
    toward_loss, consumers, stretches = _reaching_loss(operations), _consumers(operations), _stretches(operations)
    leaders: dict[int, Operation] = {}
    victims: dict[int, Paths] = {}
    place = gap(recording, parameters)
    cut_by_modules = place.victims if place else ()
    for parameter in parameters:
        names = {parameter.path, *parameter.aliases}
        users = [operation for operation in operations if names.intersection(operation.parameters)]
        derived = _derived(users, consumers)
        first = min((o for o in derived if o.index in toward_loss and not o.has_graph), key=INDEX, default=None)
        if first is None and parameter in cut_by_modules:
            first = max((o for o in derived if o.name in EXITS), key=INDEX, default=None)
        if first is not None:
            key = stretches.get(first.index, first.index)
            leaders[key] = min(leaders.get(key, first), first, key=INDEX)
            victims[key] = (*victims.get(key, ()), parameter.path)
    return {leaders[key]: victims[key] for key in leaders}


def gap(recording: Recording, parameters: Collection[ParameterInfo]) -> Gap | None:
    """Where the graph is cut, as far as modules tell: everything before it ran and received nothing.

    None when there is no such place, for example because a module before the starved ones did receive a
    gradient, so that they may just as well be a branch that nobody uses.
    """
    order = {module.path: row for row, module in enumerate(recording.modules)}
    reached = _with_gradient(recording)
    working = ran(recording, Call.GRAD)
    candidates = [parameter for parameter in parameters if parameter.module in working]
    below = min((path for path in reached if path in order), key=order.__getitem__, default=None)
    if below is None:
        return None
    victims = tuple(parameter for parameter in candidates if order[parameter.module] < order[below])
    if not victims:
        return None
    silent = [path for path in working - reached - ancestors(below) if order[path] < order[below]]
    return Gap(max(silent, key=order.__getitem__), below, victims)


def without_grad(recording: Recording, parameters: Collection[ParameterInfo]) -> tuple[ParameterInfo, ...]:
    """Those whose module ran, but only with grad mode off."""
    only = ran(recording, Call.NO_GRAD) - ran(recording, Call.GRAD)
    return tuple(parameter for parameter in parameters if parameter.module in only)


def cut_off(recording: Recording) -> frozenset[str]:
    """Paths of the starved parameters that a cut explains, by the trace if there is one, else by module facts."""
    hungry = starved(recording)
    if recording.operations:
        return frozenset(path for paths in cuts(recording, hungry).values() for path in paths)
    place = gap(recording, hungry)
    victims = (*without_grad(recording, hungry), *(place.victims if place else ()))
    return frozenset(parameter.path for parameter in victims)


def _moved(recording: Recording) -> frozenset[str]:
    """Paths of the parameters whose values changed, within a step or from one observed step to another."""
    steps = recording.values(Kind.UPDATE, Statistic.ABS_MAX) > 0
    norms = recording.values(Kind.PARAMETER, Statistic.NORM)
    # fmax and fmin pass over NaN, which is "not measured" here.
    highest: Floats = np.fmax.reduce(norms, axis=0, initial=np.nan)
    lowest: Floats = np.fmin.reduce(norms, axis=0, initial=np.nan)
    moved = _paths(recording.sites_of(Kind.UPDATE), np.any(steps, axis=0))
    return moved | _paths(recording.sites_of(Kind.PARAMETER), highest > lowest * (1 + SAME))


def _paths(sites: Sequence[Site], chosen: Iterable[bool]) -> frozenset[str]:
    return frozenset(site.path for site, yes in zip(sites, chosen, strict=True) if yes)


def _with_gradient(recording: Recording) -> frozenset[str]:
    """Modules that a gradient arrived at, in the last observed step in which any did."""
    arrived = recording.values(Kind.ACTIVATION_GRADIENT, Statistic.COUNT) > 0
    steps = np.flatnonzero(arrived.any(axis=1))
    if not len(steps):
        return frozenset()
    sites = recording.sites_of(Kind.ACTIVATION_GRADIENT)
    return frozenset(sites[column].module for column in np.flatnonzero(arrived[steps[-1]]))


def _reaching_loss(operations: Sequence[Operation]) -> set[int]:
    """Indices of the operations whose results flow into the loss."""
    inputs = {operation.index: operation.inputs for operation in operations}
    stack = [operation.index for operation in operations if operation.is_loss]
    found = set[int]()
    while stack:
        index = stack.pop()
        if index not in found:
            found.add(index)
            stack.extend(inputs.get(index, ()))
    return found


def _consumers(operations: Sequence[Operation]) -> dict[int, list[Operation]]:
    """For each operation those that use its result."""
    consumers: dict[int, list[Operation]] = defaultdict(list)
    for operation in operations:
        for source in operation.inputs:
            consumers[source].append(operation)
    return consumers


def _derived(start: Iterable[Operation], consumers: Mapping[int, list[Operation]]) -> list[Operation]:
    """These operations and all that are computed from them."""
    stack, found = list(start), dict[int, Operation]()
    while stack:
        operation = stack.pop()
        if operation.index not in found:
            found[operation.index] = operation
            stack.extend(consumers.get(operation.index, ()))
    return list(found.values())


def _stretches(operations: Sequence[Operation]) -> dict[int, int]:
    """For each operation that ran without grad mode, where its stretch of such operations began."""
    stretches: dict[int, int] = {}
    start: int | None = None
    for operation in operations:
        if operation.grad_enabled:
            start = None
        else:
            start = stretches[operation.index] = operation.index if start is None else start
    return stretches
