"""Which modules and parameters the watched model has now, under which names.

Models change while they train: heads are swapped, parameters replaced, lazy modules filled. Nothing is
cached beyond a cheap check that it still holds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import call, is_
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gradscope.records import ModuleInfo, ParameterInfo

LONGEST_REST = 64
MOST_KINDS = 64

Indices = NDArray[np.intp]
NOBODY: Indices = np.empty(0, np.intp)


@dataclass(frozen=True, eq=False)
class Watched:
    """One parameter under its names, and where to look whether it is still the same."""

    parameter: Tensor
    path: str
    module: str
    module_type: str
    name: str
    aliases: tuple[str, ...]
    holder: Mapping[str, Tensor | None]


class Tally:
    """Counts something per parameter. It is mostly the same parameters that are counted, so their times are."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._times: dict[int, tuple[Indices, list[int]]] = {}
        self._known: dict[str, int] = {}

    def add(self, indices: Indices, times: int) -> None:
        """Count these once more, or several times."""
        known = self._times.get(id(indices))
        if known is not None:
            known[1][0] += times
            return
        if len(self._times) >= MOST_KINDS:
            self._settle()
        self._times[id(indices)] = indices, [times]

    def counts(self) -> list[int]:
        """How often each was counted."""
        self._settle()
        counts: list[int] = self._counts.tolist()
        return counts

    def rearrange(self, before: list[str], after: list[str]) -> None:
        """The parameters are others now; those of the same path keep their count, and come back to it."""
        self._settle()
        self._known |= dict(zip(before, self._counts.tolist(), strict=True))
        self._counts = np.array([self._known.get(path, 0) for path in after], np.int64)

    def _settle(self) -> None:
        for indices, (times,) in self._times.values():
            self._counts[indices] += times
        self._times.clear()


class Registry:
    """Names of modules (rows, in order of first execution) and of parameters (indices, registration order)."""

    def __init__(self, roots: Mapping[str, nn.Module]) -> None:
        self._roots = roots
        self._modules: dict[int, tuple[nn.Module, str]] = {}
        self._rows: dict[str, int] = {}
        self._known_rows: dict[int, int] = {}
        self.places: dict[
            int, tuple[int, int, int]
        ] = {}  # what else is known of a module by its id, until the next walk
        self._own: dict[str, list[int]] = {}
        self._waiting: dict[str, dict[int, None]] = {}
        self._getters: list[Callable[[str], Tensor | None]] = []
        self._names: list[str] = []
        self._tensors: list[Tensor] = []
        self._foreign: dict[int, ReferenceType[nn.Module]] = {}
        self._useless_walks = 0
        self._rest = 0
        self._walks = 0
        self._identified: tuple[tuple[int, frozenset[int]], frozenset[int]] | None = None
        self.executed: list[ModuleInfo] = []
        self.parameters: list[Watched] = []
        self.index: dict[int, int] = {}
        self.generation = 0
        self._steps = Tally()
        self._contributions = Tally()
        self._last: tuple[ParameterInfo, ...] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Walk the model again."""
        self._walks += 1
        self._modules = {id(module): (module, path) for path, module in self._walk()}
        self._known_rows = {}
        self.places.clear()
        parameters = list(_grouped(self._modules.values()))
        if [(id(item.parameter), item.path) for item in parameters] != self._identities():
            before = [item.path for item in self.parameters]
            self.parameters = parameters
            for tally in (self._steps, self._contributions):
                tally.rearrange(before, [item.path for item in parameters])
            self.index = {id(item.parameter): i for i, item in enumerate(parameters)}
            self.generation += 1
            self._arrange()

    def forget(self) -> None:
        """Let go of all modules and parameters, and keep what has become of them."""
        self._last = self.infos()
        self._roots = {}
        self._modules, self._known_rows, self.parameters, self.index = {}, {}, [], {}
        self._getters, self._names, self._tensors = [], [], []
        self.places.clear()

    def refresh_if_changed(self) -> None:
        """Called once per backward: walk again when a parameter was replaced."""
        self._rest = max(0, self._rest - 1)
        held = map(call, self._getters, self._names)
        if not all(map(is_, held, self._tensors)):
            self.refresh()

    def known_row(self, module: nn.Module) -> int | None:
        """The row of a module that has run before: what `row` says, at the price of one look-up."""
        return self._known_rows.get(id(module))

    def row(self, module: nn.Module) -> int | None:
        """The row of a module of the watched model, made when it first runs; None for a foreign module."""
        known = self._modules.get(id(module)) or self._adopted(module)
        if known is None:
            return None
        path = known[1]
        row = self._rows.get(path)
        if row is None:
            row = self._rows[path] = len(self.executed)
            self.executed.append(ModuleInfo(path, type(module).__name__))
            self._runs(path)
        self._known_rows[id(module)] = row
        return row

    def module_path(self, module: object) -> str | None:
        """The path of a module object, when it belongs to the watched model."""
        known = self._modules.get(id(module))
        return known[1] if known else None

    @property
    def roots(self) -> Mapping[str, nn.Module]:
        """The watched models by name."""
        return self._roots

    def modules(self) -> Iterable[tuple[nn.Module, str]]:
        """All modules of the watched models, with their paths."""
        return self._modules.values()

    def foreign(self) -> Iterator[nn.Module]:
        """Some of the modules of other models that have run while this one was watched."""
        yield from (module for known in self._foreign.values() if (module := known()) is not None)

    def trains(self, path: str) -> bool:
        """Whether the module of this path is in training mode."""
        return any(module.training for module, its in self._modules.values() if its == path)

    def identities(self, rows: frozenset[int]) -> frozenset[int]:
        """The ids of the modules in some rows."""
        key = (self._walks, rows)
        if self._identified is None or self._identified[0] != key:
            paths = {self.executed[row].path for row in rows}
            self._identified = key, frozenset(i for i, (_, path) in self._modules.items() if path in paths)
        return self._identified[1]

    def infos(self) -> tuple[ParameterInfo, ...]:
        """What has become of each parameter so far."""
        if self._last is not None:
            return self._last
        return tuple(
            ParameterInfo(item.path, item.module, item.parameter.requires_grad, steps, contributions, item.aliases)
            for item, steps, contributions in zip(
                self.parameters, self._steps.counts(), self._contributions.counts(), strict=True
            )
        )

    def count_steps(self, indices: Indices, times: int = 1) -> None:
        """An optimizer has stepped these parameters."""
        self._steps.add(indices, times)

    def count_contributions(self, indices: Indices, times: int = 1) -> None:
        """A backward has given these parameters a gradient."""
        self._contributions.add(indices, times)

    def under(self, row: int) -> Iterator[Watched]:
        """The parameters that come with a module when it first runs.

        They are its own, and those of modules below it that have not run by themselves: a parent may use
        their weights without calling them.
        """
        path = self.executed[row].path
        for i in sorted((*self._own.get(path, ()), *self._waiting.get(path, ()))):
            yield self.parameters[i]

    def compiled(self) -> Iterator[str]:
        """Paths of the modules whose forward is compiled."""
        for module, path in self._modules.values():
            if _is_compiled_view(module) or module._compiled_call_impl is not None:
                yield path

    def _adopted(self, module: nn.Module) -> tuple[nn.Module, str] | None:
        """A module that was not there before: part of the model now, a compiled view of a part, or foreign.

        Programs that make foreign modules all the time (`nn.Softmax()(x)`) are not worth a walk each time, so
        after each walk in vain the next one has to wait twice as many steps.
        """
        inner = module._modules.get("_orig_mod") if _is_compiled_view(module) else None
        if inner is not None and id(inner) in self._modules:
            path = self._modules[id(inner)][1]
            return self._modules.setdefault(id(module), (module, path))
        seen = self._foreign.get(id(module))
        if self._rest or (seen is not None and seen() is module):
            return None
        self.refresh()
        if id(module) in self._modules:
            self._useless_walks = 0
            return self._modules[id(module)]
        self._foreign = {key: alive for key, alive in self._foreign.items() if alive() is not None}
        self._foreign[id(module)] = ref(module)
        self._useless_walks += 1
        self._rest = min(LONGEST_REST, 2**self._useless_walks // 4)
        return None

    def _arrange(self) -> None:
        """Sort the parameters by their modules, and where to look for them, so that no question needs a walk."""
        self._own, self._waiting = {}, {}
        for i, item in enumerate(self.parameters):
            self._own.setdefault(item.module, []).append(i)
            for path in containers(item.module) if item.module not in self._rows else ():
                self._waiting.setdefault(path, {})[i] = None
        self._getters = [_getter(item.holder) for item in self.parameters]
        self._names = [item.name for item in self.parameters]
        self._tensors = [item.parameter for item in self.parameters]

    def _runs(self, path: str) -> None:
        """A module has run by itself: its parameters wait for no other any more."""
        for above in containers(path):
            for i in self._own.get(path, ()):
                self._waiting[above].pop(i, None)

    def _identities(self) -> list[tuple[int, str]]:
        return [(id(item.parameter), item.path) for item in self.parameters]

    def _walk(self) -> Iterator[tuple[str, nn.Module]]:
        for prefix, root in self._roots.items():
            yield from root.named_modules(prefix=prefix)


def _grouped(modules: Iterable[tuple[nn.Module, str]]) -> Iterator[Watched]:
    """Each parameter object once, with the other names it goes by."""
    found: dict[int, list[tuple[nn.Module, str, str, Tensor]]] = {}
    for module, path in modules:
        for key, value in module._parameters.items():  # `_parameters`: reading module.weight may run code
            if value is not None:
                found.setdefault(id(value), []).append((module, path, key, value))
    for (module, path, name, parameter), *others in found.values():
        aliases = tuple(_join(other[1], other[2]) for other in others)
        kind = type(module).__name__
        yield Watched(parameter, _join(path, name), path, kind, name, aliases, module._parameters)


def _join(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _is_compiled_view(module: nn.Module) -> bool:
    """Whether this is what torch.compile(module) gives; told by name, since importing its class takes seconds."""
    return type(module).__module__ == "torch._dynamo.eval_frame"


def _getter(holder: Mapping[str, Tensor | None]) -> Callable[[str], Tensor | None]:
    """What gives one of a module's parameters by its name, and None for none."""
    if isinstance(holder, dict):
        return holder.get
    return lambda name: holder[name] if name in holder else None  # noqa: SIM401  scripted modules' have no `get`


def containers(path: str) -> Iterator[str]:
    """The paths of all modules that contain this one: "a.b", "a" and "" for "a.b.c"."""
    while path:
        path = path.rpartition(".")[0]
        yield path
