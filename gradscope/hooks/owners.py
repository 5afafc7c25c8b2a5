"""Which models an optimizer trains: the outermost modules that hold its parameters, found among all that are alive."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedParameter

from gradscope.hooks.alive import alive
from gradscope.hooks.statistics import begins_with, some

Parents = dict[int, list[nn.Module]]


def roots_of(parameters: Iterable[Tensor], known: Iterable[nn.Module] = ()) -> tuple[nn.Module, ...]:
    """The modules that hold these parameters and are themselves in no other module, most parameters first.

    Wrappers that only pass the call on are left out. Where several modules hold the same parameters, one is taken.
    `known` are roots found before: they remain roots, whatever has been put around them since.
    """
    wanted = {id(parameter) for parameter in parameters}
    modules = alive(nn.Module)
    parents = _parents(modules)
    known = list(known)
    around = {id(above) for module in known for above in _lineage(module, parents)} - set(map(id, known))
    parents = _parents(module for module in modules if id(module) not in around)
    held: dict[int, tuple[nn.Module, set[int]]] = {}
    for module in modules:
        own = wanted.intersection(map(id, _table(module, "_parameters")))
        for top in _tops(module, parents) if own else ():
            held.setdefault(id(top), (top, set()))[1].update(own)
    return tuple(unwrapped(top) for top in _cover(held.values()))


def twins_of(parameters: Iterable[Tensor]) -> tuple[nn.Module, ...]:
    """The outermost modules whose parameters equal these, which are in no module, in shape and values.

    An optimizer that was made for a copy of a model, of which nothing but the parameters is left, holds such.
    """
    wanted = list(parameters)
    modules = alive(nn.Module)
    parents = _parents(modules)
    tops = {id(top): top for module in modules if _table(module, "_parameters") for top in _tops(module, parents)}
    return tuple(unwrapped(top) for top in tops.values() if _equals(top, wanted))


def parts() -> frozenset[int]:
    """The ids of all modules that are parts of others."""
    return frozenset(_parents(alive(nn.Module)))


def _equals(module: nn.Module, wanted: list[Tensor]) -> bool:
    parameters = [parameter for parameter in module.parameters() if not isinstance(parameter, UninitializedParameter)]
    return len(parameters) == len(wanted) and all(map(_alike, parameters, wanted))


def _alike(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors have one shape, and their first elements are the same."""
    if one.shape != two.shape or one.dtype != two.dtype or one.device != two.device:
        return False
    return begins_with(two, some(one))


def unwrapped(module: nn.Module) -> nn.Module:
    """The module that a chain of wrappers passes its calls on to."""
    while (inner := _passes_to(module)) is not None:
        module = inner
    return module


def _passes_to(module: nn.Module) -> nn.Module | None:
    if type(module).__module__ == "torch._dynamo.eval_frame":  # by name: importing its class takes seconds
        return module._modules.get("_orig_mod")
    return module._modules.get("module") if isinstance(module, DataParallel | DistributedDataParallel) else None


def _parents(modules: Iterable[nn.Module]) -> Parents:
    parents: Parents = {}
    for module in modules:
        for child in _table(module, "_modules"):
            parents.setdefault(id(child), []).append(module)
    return parents


def _table(module: nn.Module, name: str) -> list[object]:
    """The values of one of a module's tables; none while the module is still being made."""
    table = vars(module).get(name)
    return [] if table is None else list(table.values())


def _tops(module: nn.Module, parents: Parents) -> list[nn.Module]:
    """The modules at or above this one that have nothing above them."""
    return [above for above in _lineage(module, parents) if id(above) not in parents]


def _lineage(module: nn.Module, parents: Parents) -> list[nn.Module]:
    """A module and all that contain it."""
    lineage, seen = [module], {id(module)}
    for current in lineage:  # it grows meanwhile
        above = [parent for parent in parents.get(id(current), ()) if id(parent) not in seen]
        seen.update(map(id, above))
        lineage.extend(above)
    return lineage


def _cover(held: Iterable[tuple[nn.Module, set[int]]]) -> Iterable[nn.Module]:
    """The fewest modules that hold all the parameters, as far as taking the largest first finds them."""
    covered: set[int] = set()
    for module, own in sorted(held, key=lambda entry: -len(entry[1])):
        if not own <= covered:
            covered |= own
            yield module
