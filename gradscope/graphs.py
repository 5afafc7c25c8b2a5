"""How parameters hang on the loss: which are starved of gradients, and where the graph is cut. Pure functions."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradscope.dataflow import CHECKPOINT, EXITS, SAMPLING, Flow, Stranger, flow_of, strangers
from gradscope.records import Call, Floats, Kind, ParameterInfo, Recording, Site, Statistic, StepEnd
from gradscope.traces import Operation

Paths: TypeAlias = tuple[str, ...]

SAME = 1e-6
SETTLED = 2
NO_GRAPH = "does not require grad and does not have a grad_fn"

# Where numbers of another library come back into torch.
ENTRIES = frozenset({"as_tensor", "asarray", "frombuffer", "from_numpy", "full", "scalar_tensor", "tensor"})


@dataclass(frozen=True, slots=True)
class Cut:
    """The operation that cuts parameters off from the loss, with the paths of those whose cut it is.

    `indices` says that what is used are the indices beside its result, `sampled` that it draws a sample.
    """

    operation: Operation
    victims: Paths = ()
    indices: bool = False
    sampled: bool = False

    @property
    def differentiable(self) -> bool:
        """Whether a gradient could come through if only the graph were kept."""
        return self.operation.differentiable and not self.indices and not self.sampled


@dataclass(frozen=True, slots=True)
class Escape:
    """Where values leave torch and where they seem to come back; what happens to them between is out of sight."""

    exit: Operation
    entry: Operation
    victims: Paths = ()


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

    All of them, where a backward was traced that reached none at all.

    Parameters of an optimizer that has not stepped yet are not judged while another one has, and neither
    are those that something else than an optimizer moves, as an averaged codebook.
    """
    return recording.once(_starved)


def _starved(recording: Recording) -> tuple[ParameterInfo, ...]:
    trainable = [parameter for parameter in recording.parameters if parameter.trainable]
    hungry = [parameter for parameter in trainable if not parameter.contributions]
    traced = bool(hungry) and _optimized(recording) and bool(flow_of(recording.operations).losses)
    if not hungry or (len(hungry) == len(trainable) and not traced):
        return ()
    if not (_optimized(recording) or recording.complete) and all(s.end is StepEnd.OPEN for s in recording.steps):
        return ()
    hungry = _stepped(recording, hungry)
    return _without(_moved(recording, hungry) | _written(recording), hungry)


def unmoved(recording: Recording) -> tuple[ParameterInfo, ...]:
    """Trainable parameters whose gradient was exactly zero whenever it was measured."""
    doubtful = _not_above_zero(recording)
    if not doubtful:
        return ()
    measured = recording.values(Kind.PARAMETER_GRADIENT, Statistic.COUNT) > 0
    zero = recording.values(Kind.PARAMETER_GRADIENT, Statistic.ABS_MAX) == 0
    paths = _paths(recording.sites_of(Kind.PARAMETER_GRADIENT), measured.any(axis=0) & (zero | ~measured).all(axis=0))
    chosen = [parameter for parameter in doubtful if names(parameter) & paths]
    return _without(_written(recording), _stepped(recording, chosen))


def settled(recording: Recording) -> bool:
    """Whether enough steps were observed to tell a cut from parameters that are moved by other means."""
    return recording.complete or len(recording.observed) >= SETTLED


def ran(recording: Recording, flags: Call = Call.GRAD | Call.NO_GRAD) -> frozenset[str]:
    """Paths of the modules that ran in some observed step, in one of the modes that `flags` names."""
    rows = np.flatnonzero((recording.calls & flags).any(axis=0))
    return frozenset(recording.modules[row].path for row in rows)


def ancestors(path: str) -> frozenset[str]:
    """The modules that contain this one, itself and the root ("") included."""
    parts = path.split(".")
    return frozenset({""} | {".".join(parts[:end]) for end in range(1, len(parts) + 1)})


def names(parameter: ParameterInfo) -> frozenset[str]:
    """The full names of a parameter."""
    return frozenset({parameter.path, *parameter.aliases})


def losses(recording: Recording, parameter: ParameterInfo) -> tuple[Operation, ...]:
    """The losses of the trace that speak for a parameter: those of the steps in which an optimizer updated it."""
    everywhere = not recording.stepped or not _optimized(recording)
    steps = {step for step, paths in recording.stepped.items() if names(parameter) & paths}
    return tuple(each for each in flow_of(recording.operations).losses if everywhere or each.step in steps)


def unspoken(recording: Recording, parameters: Collection[ParameterInfo]) -> tuple[ParameterInfo, ...]:
    """Those that no trace speaks for: no loss does, or what used them ran before the trace began."""
    uses = flow_of(recording.operations).uses
    return tuple(p for p in parameters if not (losses(recording, p) and any(name in uses for name in names(p))))


def starving_cuts(recording: Recording) -> tuple[Cut, ...]:
    """The cuts by which starved parameters are cut off."""
    return recording.once(_starving_cuts)


def _starving_cuts(recording: Recording) -> tuple[Cut, ...]:
    return cuts(recording, starved(recording))


def cuts(recording: Recording, parameters: Collection[ParameterInfo]) -> tuple[Cut, ...]:
    """The traced operations that cut parameters off from the loss; those of one stretch or one line count as one."""
    flow = flow_of(recording.operations)
    found = [_cut(flow, each, losses(recording, each)) for each in parameters] if settled(recording) else []
    made = [cut for cut in found if cut is not None]
    merged = _merged(_merged(made, lambda cut: _stretch(flow, cut)), _line)
    return tuple(cut for cut in merged if recording.complete or not _may_be_copied(recording, cut))


def ungraphed(recording: Recording) -> Cut | None:
    """What left the loss without a graph, if backward() raised for that reason and the step was traced."""
    if recording.failure is None or NO_GRAPH not in recording.failure.message:
        return None
    found = cuts(recording, [parameter for parameter in recording.parameters if parameter.trainable])
    return max(found, key=lambda cut: len(cut.victims), default=None)


def flat(recording: Recording, parameters: Collection[ParameterInfo]) -> tuple[Cut, ...]:
    """The traced operations whose derivative is zero and that every gradient of some parameters comes through."""
    flow = flow_of(recording.operations)
    found = [_flat(flow, each, losses(recording, each)) for each in parameters] if settled(recording) else []
    return _merged([cut for cut in found if cut is not None], _line)


def escapes(recording: Recording, parameters: Collection[ParameterInfo]) -> tuple[Escape, ...]:
    """Where values leave torch and seem to come back, if the modules tell of a cut, too."""
    place = gap(recording, parameters) if settled(recording) else None
    found: dict[tuple[int, int], Escape] = {}
    for parameter in place.victims if place else ():
        escape = _escape(recording, parameter, place.below if place else "")
        if escape is not None:
            key = escape.exit.index, escape.entry.index
            found[key] = replace(escape, victims=(*(found[key].victims if key in found else ()), parameter.path))
    return tuple(found.values())


def gap(recording: Recording, parameters: Collection[ParameterInfo]) -> Gap | None:
    """Where the graph is cut, as far as modules tell: everything before it ran and received nothing.

    None when there is no such place, for example because a module before the starved ones did receive a
    gradient, so that they may just as well be a branch that nobody uses.
    """
    if not parameters:
        return None
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
    return Gap(max(silent, key=order.__getitem__, default=victims[-1].module), below, victims)


def without_grad(recording: Recording, parameters: Collection[ParameterInfo]) -> tuple[ParameterInfo, ...]:
    """Those whose module ran, but only with grad mode off."""
    only = ran(recording, Call.NO_GRAD) - ran(recording, Call.GRAD)
    return tuple(parameter for parameter in parameters if parameter.module in only)


def cut_off(recording: Recording) -> frozenset[str]:
    """Paths of the starved parameters that a cut explains: by the trace, by module facts where none speaks for them."""
    hungry = starved(recording)
    cut, escaped = starving_cuts(recording), escapes(recording, hungry)
    by_trace = *(each.victims for each in cut), *(each.victims for each in escaped)
    silent = unspoken(recording, hungry)
    place = gap(recording, silent)
    by_modules = (*without_grad(recording, silent), *(place.victims if place else ()))
    return frozenset(parameter.path for parameter in by_modules).union(*by_trace)


def last_module(recording: Recording, victims: tuple[str, ...]) -> str:
    """The module that ran last among those of some parameters."""
    order = {module.path: row for row, module in enumerate(recording.modules)}
    modules = [parameter.module for parameter in recording.parameters if parameter.path in victims]
    return max(modules, key=lambda path: order.get(path, -1))


def receiving(victims: tuple[str, ...]) -> str:
    """Who receives no gradient, as the beginning of a phrase."""
    return f"{len(victims)} parameters receive" if len(victims) > 1 else f"{victims[0]!r} receives"


def _optimized(recording: Recording) -> bool:
    return any(parameter.optimizer_steps for parameter in recording.parameters if parameter.trainable)


def _stepped(recording: Recording, parameters: Iterable[ParameterInfo]) -> list[ParameterInfo]:
    """Those that an optimizer has stepped; all of them where none has stepped at all."""
    return [parameter for parameter in parameters if parameter.optimizer_steps or not _optimized(recording)]


def _without(paths: frozenset[str], parameters: Iterable[ParameterInfo]) -> tuple[ParameterInfo, ...]:
    return tuple(parameter for parameter in parameters if not names(parameter) & paths)


def _written(recording: Recording) -> frozenset[str]:
    """Paths of the parameters that the program itself writes to."""
    return flow_of(recording.operations).written


def _not_above_zero(recording: Recording) -> list[ParameterInfo]:
    """Trainable parameters that receive gradients, of which the last observed step shows none that is not zero."""
    if not recording.observed:
        return []
    zero = recording.at(-1, Kind.PARAMETER_GRADIENT, Statistic.ABS_MAX) == 0
    unmeasured = recording.at(-1, Kind.PARAMETER_GRADIENT, Statistic.COUNT) == 0
    paths = _paths(recording.sites_of(Kind.PARAMETER_GRADIENT), zero | unmeasured)
    fed = (parameter for parameter in recording.parameters if paths and parameter.trainable and parameter.contributions)
    return [parameter for parameter in fed if names(parameter) & paths]


def _moved(recording: Recording, parameters: Iterable[ParameterInfo]) -> frozenset[str]:
    """Paths of those parameters whose values changed, within a step or from one observed step to another."""
    paths = frozenset[str]().union(*map(names, parameters))
    updates, weights = (
        {column: site.path for column, site in enumerate(recording.sites_of(kind)) if site.path in paths}
        for kind in (Kind.UPDATE, Kind.PARAMETER)
    )
    steps = recording.values(Kind.UPDATE, Statistic.ABS_MAX, [*updates]) > 0
    norms = recording.values(Kind.PARAMETER, Statistic.NORM, [*weights])
    # fmax and fmin pass over NaN, which is "not measured" here.
    highest: Floats = np.fmax.reduce(norms, axis=0, initial=np.nan)
    lowest: Floats = np.fmin.reduce(norms, axis=0, initial=np.nan)
    stepped, changed = np.asarray(steps.any(axis=0)), np.asarray(highest > lowest * (1 + SAME))
    return frozenset((*compress(updates.values(), stepped), *compress(weights.values(), changed)))


def _paths(sites: Sequence[Site], chosen: NDArray[np.bool_]) -> frozenset[str]:
    return frozenset(sites[column].path for column in np.flatnonzero(chosen).tolist())


def _with_gradient(recording: Recording) -> frozenset[str]:
    """Modules that a gradient arrived at, in the last observed step in which any did."""
    sites = recording.sites_of(Kind.ACTIVATION_GRADIENT)
    for row in reversed(range(len(recording.observed))):
        arrived = np.flatnonzero(recording.at(row, Kind.ACTIVATION_GRADIENT, Statistic.COUNT)).tolist()
        if arrived:
            return frozenset(sites[column].module for column in arrived)
    return frozenset()


def _may_be_copied(recording: Recording, cut: Cut) -> bool:
    """Whether what runs without grad mode has a twin that learns, as a target network that is synchronized later."""
    if cut.operation.grad_enabled:
        return False
    shapes = {site.path: site.shape for site in recording.sites_of(Kind.PARAMETER)}
    learning = {parameter.path for parameter in recording.parameters if parameter.contributions}
    return all(any(_are_twins(path, other, shapes) for other in learning) for path in cut.victims)


def _are_twins(path: str, other: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether two parameters have one shape and differ in a single name that is no number."""
    mine, its = path.split("."), other.split(".")
    if len(mine) != len(its) or path not in shapes or shapes[path] != shapes.get(other):
        return False
    differing = [name for name, another in zip(mine, its, strict=True) if name != another]
    return len(differing) == 1 and not differing[0].isdigit()


def _cut(flow: Flow, parameter: ParameterInfo, ends: Sequence[Operation]) -> Cut | None:
    severed = flow.severed(names(parameter), ends)
    if not severed:
        return None
    # Beside a cut of values, a mask or an index is what it usually is: no way for a gradient, and none is missed.
    operation, indices = min(severed, key=lambda end: (end[1] or not end[0].differentiable, end[0].index))
    sample = flow.sample(operation)
    if sample is not None:
        return Cut(sample, (parameter.path,), sampled=True)
    return Cut(flow.exit(operation), (parameter.path,), indices)


def _flat(flow: Flow, parameter: ParameterInfo, ends: Sequence[Operation]) -> Cut | None:
    found = flow.flattened(names(parameter), ends)
    return Cut(found[0], (parameter.path,), sampled=found[0].name in SAMPLING) if found else None


def _escape(recording: Recording, parameter: ParameterInfo, below: str) -> Escape | None:
    flow = flow_of(recording.operations)
    users = [operation for name in names(parameter) for _, operation in flow.uses.get(name, ())]
    toward = flow.toward(losses(recording, parameter))
    if any(each.index in toward for each in users):
        return None
    derived = flow.downstream(users)
    exits = sorted((each for each in derived if each.name in EXITS and each.operands), key=lambda each: each.index)
    if not exits:
        return None
    # What comes back must reach the module that learns: targets of the loss come from outside, too.
    toward &= flow.upstream(
        each for each in flow.operations if each.index in toward and below in ancestors(each.module)
    )
    before = frozenset[Stranger]().union(*(strangers(each) for each in flow.operations if each.index <= exits[0].index))
    for entry in (each for each in flow.operations if each.index in toward):
        out = [each for each in exits if each.index < entry.index and each.step == entry.step]
        new = {shape for shape, _ in strangers(entry) - before}
        back = [each for each in out if each.operands[0].shape in new]
        if out and (back or (entry.name in ENTRIES and not entry.operands)):
            return Escape((back or out)[-1], entry)
    return None


def _stretch(flow: Flow, cut: Cut) -> Hashable:
    """What tells stretches without grad mode apart, each of which is one cut."""
    operation = cut.operation
    whole = not operation.grad_enabled and cut.differentiable and operation.function != CHECKPOINT
    return flow.stretches[operation.index] if whole else ("", operation.index)


def _line(cut: Cut) -> Hashable:
    """What tells cuts of different lines apart."""
    operation, place = cut.operation, cut.operation.location
    if place is None:
        return operation.index
    mode = not operation.grad_enabled and cut.differentiable
    return operation.function == CHECKPOINT, "" if mode else operation.name, place.file, place.line


def _merged(cuts: Iterable[Cut], key: Callable[[Cut], Hashable]) -> tuple[Cut, ...]:
    """One cut, the first, for those that have the same key."""
    groups: dict[Hashable, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(key(cut), []).append(cut)
    firsts = [(min(group, key=lambda cut: cut.operation.index), group) for group in groups.values()]
    return tuple(
        replace(first, victims=tuple(path for cut in group for path in cut.victims)) for first, group in firsts
    )
