"""A function run again and again at points near its inputs, always with the same random numbers.

Knows nothing of modules and hooks. The outputs are projected onto one random vector, of our own generator.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import sqrt
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Run: TypeAlias = Callable[[], Sequence[Tensor]]
Shifts: TypeAlias = Mapping[str, Tensor]

# What a function may raise where it is not defined; an exception of another kind is a fault.
UNDEFINED = (RuntimeError, ValueError, IndexError, AssertionError, ArithmeticError)

ROUNDOFF = {torch.float64: 1e4 * torch.finfo(torch.float64).eps, torch.float32: 50 * torch.finfo(torch.float32).eps}
JITTER = 1e-2


class TooSlow(Exception):
    """The function takes longer than the time that it was given."""


class Names(TorchFunctionMode):
    """Collects the names of the torch functions that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen.add(str(getattr(func, "__name__", "")).strip("_"))
        return func(*args, **(kwargs or {}))


@contextmanager
def undisturbed(devices: set[torch.device]) -> Iterator[Callable[[], None]]:
    """Grad mode on, autocast off; gives a function that rewinds all random numbers, which are as before at the end."""
    rewind = _rewinder(devices)
    with ExitStack() as stack:
        stack.callback(rewind)
        stack.enter_context(torch.inference_mode(mode=False))  # which also turns grad mode on
        for kind in {"cpu", *(device.type for device in devices)}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield rewind


def _rewinder(devices: set[torch.device]) -> Callable[[], None]:
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  what users draw from
    cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices if device.type == "cuda"]

    def rewind() -> None:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002  as above
        torch.set_rng_state(cpu)
        for device, state in cuda:
            torch.cuda.set_rng_state(state, device)

    return rewind


@dataclass
class Probe:
    """One function at one point, a little off the given one, because that may lie on a kink.

    `run` computes the outputs from the present values of `leaves`, which require grad and are all float64 or all
    float32. `deadline` is when it must be over.
    """

    run: Run
    leaves: Mapping[str, Tensor]
    rewind: Callable[[], None]
    deadline: float = float("inf")

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.given = {name: leaf.detach().clone() for name, leaf in self.leaves.items()}
        self.base = self.given
        self.dtype = next(iter(self.leaves.values())).dtype
        self._wanted: list[bool] = []

    def settle(self) -> None:
        """Move off kinks, see which outputs can be differentiated, and choose the projection."""
        self.base = {name: value + JITTER * self.direction(value) for name, value in self.given.items()}
        if not self._defined():
            self.base = self.given
            self._place(self.base)
        with Names() as names:
            outputs = self._outputs()
        self.names = frozenset(names.seen)
        graphs = [each.requires_grad for each in outputs]
        self._wanted = graphs if any(graphs) else [True] * len(graphs)
        self.values = self._values()
        self.single = sum(each.numel() for each in self.values) == 1
        self.projection = [torch.ones_like(each) if self.single else self.normal(each) for each in self.values]
        pairs = zip(self.values, self.projection, strict=True)
        self._size = sqrt(sum(float((value * weight).square().sum()) for value, weight in pairs))

    def restore(self) -> None:
        """Give the leaves the values they came with."""
        self._place(self.given)

    def gradients(self, scale: float = 1.0) -> dict[str, Tensor | None]:
        """The gradient of the projection, times `scale`, as autograd computes it."""
        outputs = self._chosen(self._outputs())
        if not any(each.requires_grad for each in outputs):
            return dict.fromkeys(self.leaves)
        weights = [(scale * each).to(output.dtype) for output, each in zip(outputs, self.projection, strict=True)]
        found = torch.autograd.grad(outputs, list(self.leaves.values()), weights, allow_unused=True)
        return {name: _dense(gradient) for name, gradient in zip(self.leaves, found, strict=True)}

    def difference(self, name: str, direction: Tensor, step: float) -> float:
        """The central difference of the projection when one leaf moves; NaN where the function is not defined."""
        try:
            ahead, behind = (self.moved({name: sign * step * direction}) for sign in (1, -1))
        except UNDEFINED:
            return float("nan")
        if [each.shape for each in ahead] != [each.shape for each in behind]:
            return float("nan")
        pairs = zip(ahead, behind, self.projection, strict=True)
        return sum(float(((a - b) * weight).sum()) for a, b, weight in pairs) / (2 * step)

    def noise(self, step: float) -> float:
        """How much rounding may change a difference of this step."""
        return ROUNDOFF[self.dtype] * self._size / step

    def moved(self, shifts: Shifts) -> list[Tensor]:
        """The outputs' values with some leaves shifted."""
        self._place({name: self.base[name] + shift for name, shift in shifts.items()})
        try:
            return self._values()
        finally:
            self._place({name: self.base[name] for name in shifts})

    def direction(self, value: Tensor) -> Tensor:
        """Random, in proportion to the elements, none of them near zero; what is not finite stays where it is."""
        finite = value.isfinite()
        magnitude = torch.where(finite, value.abs(), 0.0)
        size = torch.where(finite, magnitude + 0.1 * (rms(magnitude) or 1.0), 0.0)
        drawn = torch.rand(value.shape, generator=self.generator, dtype=torch.float64) - 0.5
        return size * (drawn.sign() * (0.1 + 1.8 * drawn.abs())).to(value)

    def normal(self, like: Tensor) -> Tensor:
        """Normally distributed numbers in the shape of a tensor."""
        return torch.randn(like.shape, generator=self.generator, dtype=torch.float64).to(like.device)

    def _defined(self) -> bool:
        try:
            self._place(self.base)
            return all(bool(each.isfinite().all()) for each in self._outputs())
        except UNDEFINED:
            return False

    def _outputs(self) -> list[Tensor]:
        if perf_counter() > self.deadline:
            raise TooSlow
        self.rewind()
        return [torch.view_as_real(each.resolve_conj()) if each.is_complex() else each for each in self.run()]

    def _chosen(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        return [each for each, wanted in zip(outputs, self._wanted, strict=True) if wanted]

    def _values(self) -> list[Tensor]:
        return [each.detach().to(torch.float64, copy=True) for each in self._chosen(self._outputs())]

    def _place(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.leaves[name].copy_(value)


def rms(value: Tensor) -> float:
    """The root mean square of a tensor; 0.0 of an empty one."""
    return sqrt(float(value.double().square().mean())) if value.numel() else 0.0


def _dense(gradient: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or gradient.layout is torch.strided else gradient.to_dense()
