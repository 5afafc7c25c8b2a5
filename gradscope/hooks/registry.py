"""Which modules and parameters the watched model has now, under which names.

Models change while they train: heads are swapped, parameters replaced, lazy modules filled. Nothing is
cached beyond a cheap check that it still holds.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gradscope.records import ModuleInfo, ParameterInfo

LONGEST_REST = 64


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

    @property
    def current(self) -> bool:
        """Whether the module still holds this very parameter."""
        return self.name in self.holder and self.holder[self.name] is self.parameter


class Registry:
    """Names of modules (rows, in order of first execution) and of parameters (indices, registration order)."""

    def __init__(self, roots: Mapping[str, nn.Module]) -> None:
        self._roots = roots
        self._modules: dict[int, tuple[nn.Module, str]] = {}
        self._rows: dict[str, int] = {}
        self._known_rows: dict[int, int] = {}
        self._foreign: dict[int, ReferenceType[nn.Module]] = {}
        self._useless_walks = 0
        self._rest = 0
        self._walks = 0
        self._identified: tuple[tuple[int, int], frozenset[int]] | None = None
        self.executed: list[ModuleInfo] = []
        self.parameters: list[Watched] = []
        self.index: dict[int, int] = {}
        self.generation = 0
        self.optimizer_steps: Counter[str] = Counter()
        self.contributions: Counter[str] = Counter()
        self.refresh()

    def refresh(self) -> None:
        """Walk the model again."""
        self._walks += 1
        self._modules = {id(module): (module, path) for path, module in self._walk()}
        self._known_rows = {}
        parameters = list(_grouped(self._modules.values()))
        if [(id(item.parameter), item.path) for item in parameters] != self._identities():
            self.parameters = parameters
            self.index = {id(item.parameter): i for i, item in enumerate(parameters)}
            self.generation += 1

    def refresh_if_changed(self) -> None:
        """Called once per backward: walk again when a parameter was replaced."""
        self._rest = max(0, self._rest - 1)
        if not all(item.current for item in self.parameters):
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
        self._known_rows[id(module)] = row
        return row

    def module_path(self, module: object) -> str | None:
        """The path of a module object, when it belongs to the watched model."""
        known = self._modules.get(id(module))
        return known[1] if known else None

    def identities(self, rows: Collection[int]) -> frozenset[int]:
        """The ids of the modules in some rows."""
        paths = {self.executed[row].path for row in rows}
        key = (self._walks, len(rows))
        if self._identified is None or self._identified[0] != key:
            self._identified = key, frozenset(i for i, (_, path) in self._modules.items() if path in paths)
        return self._identified[1]

    def infos(self) -> tuple[ParameterInfo, ...]:
        """What has become of each parameter so far."""
        return tuple(
            ParameterInfo(
                item.path,
                item.module,
                item.parameter.requires_grad,
                self.optimizer_steps[item.path],
                self.contributions[item.path],
                item.aliases,
            )
            for item in self.parameters
        )

    def count_steps(self, indices: NDArray[np.intp]) -> None:
        """An optimizer has stepped these parameters."""
        self.optimizer_steps.update(self.parameters[i].path for i in indices.tolist())

    def count_contributions(self, indices: NDArray[np.intp]) -> None:
        """A backward has given these parameters a gradient."""
        self.contributions.update(self.parameters[i].path for i in indices.tolist())

    def under(self, row: int) -> Iterator[Watched]:
        """The parameters that come with a module when it first runs.

        They are its own, and those of modules below it that have not run by themselves: a parent may use
        their weights without calling them.
        """
        path = self.executed[row].path
        ran = {info.path for info in self.executed}
        for item in self.parameters:
            if item.module == path or (_below(item.module, path) and item.module not in ran):
                yield item

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


def _below(path: str, ancestor: str) -> bool:
    return not ancestor or path.startswith(f"{ancestor}.")
