"""Which modules and parameters the watched model has now, under which names.

Models change while they train: heads are swapped, parameters replaced, lazy modules filled. Nothing is
cached beyond a cheap check that it still holds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gradscope.records import ModuleInfo, ParameterInfo


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
        return self.holder.get(self.name) is self.parameter


class Registry:
    """Names of modules (rows, in order of first execution) and of parameters (indices, registration order)."""

    def __init__(self, roots: Mapping[str, nn.Module]) -> None:
        self._roots = roots
        self._modules: dict[int, tuple[nn.Module, str]] = {}
        self._rows: dict[str, int] = {}
        self._foreign: dict[int, nn.Module] = {}
        self.executed: list[ModuleInfo] = []
        self.parameters: list[Watched] = []
        self.index: dict[int, int] = {}
        self.generation = 0
        self.optimizer_steps: Counter[str] = Counter()
        self.contributions: Counter[str] = Counter()
        self.refresh()

    def refresh(self) -> None:
        """Walk the model again."""
        self._modules = {id(module): (module, path) for path, module in self._walk()}
        self._foreign.clear()
        self.parameters = list(_grouped(self._modules.values()))
        self.index = {id(item.parameter): i for i, item in enumerate(self.parameters)}
        self.generation += 1

    def refresh_if_changed(self) -> None:
        """Walk again when a parameter was replaced."""
        if not all(item.current for item in self.parameters):
            self.refresh()

    def row(self, module: nn.Module) -> int | None:
        """The row of a module of the watched model, made when it first runs; None for a foreign module."""
        known = self._modules.get(id(module))
        if known is None and id(module) not in self._foreign:
            self.refresh()
            known = self._modules.get(id(module))
            if known is None:
                self._foreign[id(module)] = module
        if known is None:
            return None
        path = known[1]
        row = self._rows.get(path)
        if row is None:
            row = self._rows[path] = len(self.executed)
            self.executed.append(ModuleInfo(path, type(module).__name__))
        return row

    def module_path(self, module: object) -> str | None:
        """The path of a module object, when it belongs to the watched model."""
        known = self._modules.get(id(module))
        return known[1] if known else None

    def modules(self) -> Iterator[nn.Module]:
        """Every module of the watched model."""
        return (module for module, _ in self._modules.values())

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


def _below(path: str, ancestor: str) -> bool:
    return not ancestor or path.startswith(f"{ancestor}.")
