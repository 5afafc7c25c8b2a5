"""Parameters that a module holds where torch does not look: in a list, tuple, set or dict, or as plain tensors.

And those of modules that run beside the model and are a part of none, such as a loss with weights of its own.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from gradscope.hooks.holdings import held_anywhere
from gradscope.hooks.marks import version
from gradscope.hooks.observers import Observer
from gradscope.hooks.owners import parts
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry
from gradscope.hooks.statistics import begins_with, some
from gradscope.inventory import OUTSIDE, Stray

TORCHS = frozenset(vars(nn.Module()))
DEEPEST = 3
LONGEST = 256
MOST = 1024
CONTAINERS = (list, tuple, set, dict)
BESIDE = 8
CHECKS = (16, 256)


@dataclass(frozen=True, eq=False)
class Found:
    """One of them when it was found, with its gradient and a few of its values."""

    stray: Stray
    tensor: ReferenceType[Tensor]
    home: ReferenceType[nn.Module] | None
    gradient: ReferenceType[Tensor]
    version: int
    values: Tensor | None


class Strays(Observer):
    """Looks for them once, after a step, and at the end for what has become of them.

    Modules beside the model become known one after the other, so for those it looks after each of the first steps. They
    may be gone at the end, so what has become of them is asked in between, too.
    """

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._found: list[Found] | None = None
        self._beside: dict[int, Found] = {}
        self._idle: list[Found] = []
        self._checks = list(CHECKS)

    def step_closed(self, step: int) -> None:
        """Look, if this is the first."""
        if self._found is None:
            self._found = []
            self._found = [*islice(self._all(step), MOST)]
        if step < BESIDE:
            for known in self._others(step):
                self._beside.setdefault(id(known.tensor()), known)
        if self._beside and self._checks and step >= self._checks[0]:
            self._checks = [check for check in self._checks if check > step]
            self._idle = self._left(self._beside.values())

    def run_ends(self) -> None:
        """Note those that still receive gradients, are in no optimizer and have not moved. Waits for the device."""
        gone = [known for known in self._idle if known.tensor() is None or known.home is None or known.home() is None]
        left = self._left([*(self._found or ()), *self._beside.values()])
        lost = tuple(known.stray for known in (*left, *gone))
        self._recorder.inventory = replace(self._recorder.inventory, strays=lost)

    def _left(self, candidates: Iterable[Found]) -> list[Found]:
        alive = [known for known in candidates if _goes_on(known)]
        elsewhere = held_anywhere() if alive else set()
        left = [known for known in alive if id(known.tensor()) not in elsewhere]
        inner = parts() if any(known.stray.kind == OUTSIDE for known in left) else frozenset()
        return [known for known in left if known.stray.kind != OUTSIDE or _is_apart(known, inner)]

    def _others(self, step: int) -> Iterator[Found]:
        """The parameters of modules of the program's own kinds that run beside the model and have no parts."""
        for module in self._registry.foreign():
            kind = type(module)
            if kind.__module__.partition(".")[0] == "torch" or module._modules:
                continue
            for name, tensor in module._parameters.items():
                if tensor is not None and tensor.grad is not None and id(tensor) not in self._registry.index:
                    path = f"{kind.__name__}.{name}"
                    stray = Stray(path, kind.__name__, name, OUTSIDE, tuple(tensor.shape), step)
                    yield _found(stray, tensor, tensor.grad, module)

    def _all(self, step: int) -> Iterator[Found]:
        seen: set[int] = set()
        for module, path in self._registry.modules():
            for name, value in list(vars(module).items()):
                if name in TORCHS or type(value) not in (*CONTAINERS, Tensor):
                    continue
                kind = type(value).__name__.lower()
                for inner, tensor, home in _inside(value, DEEPEST):
                    gradient = tensor.grad if tensor.is_leaf else None  # others warn when they are asked
                    if gradient is None or id(tensor) in seen or id(tensor) in self._registry.index:
                        continue
                    seen.add(id(tensor))
                    where = f"{path}.{name}{inner}" if path else f"{name}{inner}"
                    plain = not isinstance(tensor, nn.Parameter)
                    stray = Stray(where, path, name, kind, tuple(tensor.shape), step, plain)
                    yield _found(stray, tensor, gradient, home)


def _inside(value: object, depth: int) -> Iterator[tuple[str, Tensor, nn.Module | None]]:
    """The parameters in a structure, each with where in it and the module that it belongs to."""
    if isinstance(value, nn.Module):
        yield from _parameters(value)
    elif type(value) in (Tensor, nn.Parameter):
        yield "", cast(Tensor, value), None
    elif type(value) in CONTAINERS and depth:
        for key, item in islice(_items(value), LONGEST):
            for inner, parameter, home in _inside(item, depth - 1):
                yield f"[{key!r}]{inner}", parameter, home


def _items(value: Any) -> Iterable[tuple[object, object]]:
    return list(value.items()) if isinstance(value, dict) else enumerate(tuple(value))


def _parameters(root: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    for path, module in root.named_modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, nn.Parameter) and not torch.nn.parameter.is_lazy(parameter):
                yield "".join(f".{part}" for part in (path, name) if part), parameter, module


def _found(stray: Stray, tensor: Tensor, gradient: Tensor, home: nn.Module | None) -> Found:
    known = None if home is None else ref(home)
    return Found(stray, ref(tensor), known, ref(gradient), version(gradient), some(tensor))


def _is_apart(known: Found, inner: Container[int]) -> bool:
    """Whether its module is alive, and none of the `inner` ones, which are parts of others."""
    home = None if known.home is None else known.home()
    return home is not None and id(home) not in inner


def _goes_on(known: Found) -> bool:
    """Whether it has received gradients since, and nothing has moved it; a part in evaluation mode is a tool."""
    tensor, home = known.tensor(), None if known.home is None else known.home()
    if tensor is None or tensor.grad is None or (home is not None and not home.training):
        return False
    again = known.gradient() is not tensor.grad or version(tensor.grad) > known.version
    return again and begins_with(tensor, known.values)
