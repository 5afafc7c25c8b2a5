"""Whether the gradient comes from one module to another."""

from collections.abc import Iterator

from gradscope.dataflow import flow_of
from gradscope.excerpt import excerpt
from gradscope.records import ROOT, Kind, Recording, Statistic
from gradscope.testing.captured import Captured, measured
from gradscope.testing.places import is_inside, module_like, modules_of
from gradscope.testing.profile import Offence, failure
from gradscope.traces import Operation

ARRIVING = Kind.ACTIVATION_GRADIENT


def assert_no_cut(scope: Captured, between: str, and_: str) -> None:
    """Fail unless the gradient comes from one module back to another, through the graph between them.

    It does if the output of the later one was computed from that of the earlier one, as autograd saw it, and a
    gradient that is not zero throughout arrived at the output of the earlier one. The order of the two does not matter.
    Where one of them holds the other, the gradient that arrives at the inner one is all that is asked for.

    Args:
        scope: what `watch` gave, or its recording.
        between: path of a module, as in "encoder".
        and_: path of another one.

    Raises:
        AssertionError: the graph is cut between them, or nothing was measured.
        NoSuchSite: no such module ran.
    """
    __tracebackhide__ = True
    recording = measured(scope)
    first, last = _in_order(recording, module_like(recording, between), module_like(recording, and_))
    reason = _obstacle(recording, first, last)
    if reason:
        headline = f"the gradient does not come from {_name(last)} to {_name(first)}"
        lines = [line for operation in _cuts(recording, first, last) for line in _shown(operation)]
        raise failure(scope, headline, [Offence(first, first, reason)], otherwise="\n".join(lines))


def _in_order(recording: Recording, one: str, other: str) -> tuple[str, str]:
    order = {path: row for row, path in enumerate(modules_of(recording))}
    rank = {path: max(order[inner] for inner in _within(recording, path)) for path in (one, other)}
    return (one, other) if rank[one] <= rank[other] else (other, one)


def _within(recording: Recording, module: str) -> list[str]:
    """The modules that ran and are this one or in it, in forward order."""
    return [path for path in modules_of(recording) if is_inside(path, module)]


def _obstacle(recording: Recording, first: str, last: str) -> str:
    """Why the gradient does not come through; "" if it does."""
    if not _arrivals(recording, last):
        return f"no gradient arrives at {_name(last)} itself"
    arrivals = _arrivals(recording, first)
    linked = is_inside(first, last) or _is_connected(recording, first, last) or _is_traced(recording, first, last)
    if not linked and (not arrivals or arrivals.keys() & _looked_at(recording)):
        return f"{_name(last)} was not computed from it, as autograd saw it: the graph is cut between them"
    if not arrivals:
        return "no gradient arrives at its output"
    return "" if any(arrivals.values()) else "the gradient at its output is exactly zero"


def _arrivals(recording: Recording, module: str) -> dict[int, bool]:
    """The observed steps in which a gradient arrived at a module or in it, and whether it was not zero."""
    columns = [column for column, site in enumerate(recording.sites_of(ARRIVING)) if is_inside(site.module, module)]
    values, counts = (recording.values(ARRIVING, each, columns) for each in (Statistic.ABS_MAX, Statistic.COUNT))
    there, some = counts > 0, (counts > 0) & (values != 0)
    return {step.index: bool(some[row].any()) for row, step in enumerate(recording.observed) if there[row].any()}


def _looked_at(recording: Recording) -> set[int]:
    """The steps whose graph is known. What other steps do may be something else, as when a GAN takes turns."""
    return {operation.step for operation in recording.operations} or {recording.observed[0].index}


def _is_connected(recording: Recording, first: str, last: str) -> bool:
    """Whether a way leads back through the graph of the first calls, from the outputs of one module to another's."""
    sources = recording.graph.sources
    goals = set(_within(recording, first)) | _twins(recording, first)
    waiting, seen = [last] if last in sources else _within(recording, last), set[str]()
    while waiting:
        new = set(sources.get(waiting.pop(), ())) - seen
        if new & goals:
            return True
        seen |= new
        waiting.extend(new)
    return False


def _is_traced(recording: Recording, first: str, last: str) -> bool:
    """Whether a way with a gradient leads from one module's operations to another's, in any call that was traced."""
    flow = flow_of(recording.operations)
    waiting = [each.index for each in flow.operations if is_inside(each.module, first)]
    seen = set(waiting)
    while waiting:
        edges = flow.edges.get(waiting.pop(), ())
        new = {each.index for operand, each in edges if flow.passes(operand, each)} - seen
        seen |= new
        waiting.extend(new)
    return any(is_inside(flow.by_index[index].module, last) for index in seen)


def _twins(recording: Recording, module: str) -> set[str]:
    """The source of a module that hands its input on as it is (dropout in evaluation): autograd sees no difference."""
    (source, *others) = recording.graph.sources.get(module, ()) or ("",)
    if others or not source:
        return set()
    columns = {site.module: column for column, site in enumerate(recording.sites_of(ARRIVING))}
    if module not in columns or source not in columns:
        return set()
    norms = recording.values(ARRIVING, Statistic.NORM)
    mine, its = norms[:, columns[module]], norms[:, columns[source]]
    return {source} if ((mine == its) & (mine > 0)).any() else set()


def _cuts(recording: Recording, first: str, last: str) -> Iterator[Operation]:
    """The traced operations between two modules whose input has a graph and whose result has none."""
    flow = flow_of(recording.operations)
    made = [each for each in flow.operations if is_inside(each.module, first)]
    used = [each for each in flow.operations if is_inside(each.module, last)]
    toward = flow.upstream(used)
    lost = (each for each in flow.downstream(made) if each.had_graph and not each.has_graph)
    return (each for each in lost if each.index in toward)


def _shown(operation: Operation) -> Iterator[str]:
    place = f"{operation.location}  " if operation.location else ""
    yield f"{place}{operation.name} between them cuts the graph"
    for text in excerpt(operation.location):
        yield f"    {text}"


def _name(module: str) -> str:
    return repr(module) if module else ROOT
