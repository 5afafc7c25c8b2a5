"""Sets what watches a process aside for a step, so that a bare step can be timed between two watched ones.

Everything gradscope has in a process hangs on torch's global hooks. While they are out of their tables a step is bare,
and gradscope's clocks stand still: what it does once a second, and what it takes a step to last, is as if the bare
steps had never been. Tools that hang their hooks on the model itself are entered and left around whole blocks instead.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, monotonic_ns, perf_counter, perf_counter_ns
from types import TracebackType
from typing import Any, Self

import torch.nn.modules.module as modules
import torch.optim.optimizer as optimizers
from torch.overrides import _get_current_function_mode_stack

HOOKS = tuple(
    table
    for module in (modules, optimizers)
    for name, table in vars(module).items()
    if name.startswith("_global_") and isinstance(table, dict)
)
CLOCKS = {monotonic: 1, perf_counter: 1, monotonic_ns: 10**9, perf_counter_ns: 10**9}


class Aside:
    """While this context is open, gradscope's clocks are ours."""

    def __init__(self, package: str = "gradscope") -> None:
        self._package = package
        self._gap = 0.0
        self._replaced: list[tuple[dict[str, Any], str, Any]] = []

    def __enter__(self) -> Self:
        ours = {clock: self._standing(clock, unit) for clock, unit in CLOCKS.items()}
        for names, name, clock in names_of_clocks(self._package):
            self._replaced.append((names, name, clock))
            names[name] = ours[clock]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._replaced:
            names, name, clock = self._replaced.pop()
            names[name] = clock

    @contextmanager
    def out(self) -> Iterator[None]:
        """What runs inside is bare."""
        start = perf_counter()
        kept = [dict(table) for table in HOOKS]
        for table in HOOKS:
            table.clear()
        try:
            yield
        finally:
            for table, content in zip(HOOKS, kept, strict=True):
                table.update(content)
            self._gap += perf_counter() - start

    def _standing(self, clock: Callable[[], float], unit: int) -> Callable[[], float]:
        def standing() -> float:
            return clock() - self._gap if unit == 1 else clock() - int(self._gap * unit)

        return standing


def possible() -> bool:
    """Whether the next step would be bare without the hooks: nobody listens to the operations themselves."""
    return not _get_current_function_mode_stack()


def names_of_clocks(package: str) -> list[tuple[dict[str, Any], str, Any]]:
    """Where a package's modules have a clock: their names, the clock's name there, and the clock."""
    return [
        (vars(module), name, value)
        for path, module in list(sys.modules.items())
        if path.partition(".")[0] == package
        for name, value in vars(module).items()
        if any(value is clock for clock in CLOCKS)
    ]
