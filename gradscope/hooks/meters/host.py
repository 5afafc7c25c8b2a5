"""Tensors on the CPU, each reduced in one pass by the compiled kernel, straight into rows on the host."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradscope.hooks.meters.meter import OnHost
from gradscope.records import UNMEASURED, Floats

try:
    from gradscope.hooks.meters import _kernel
except ImportError:  # installed without a C compiler: torch's own operations do the same, in more passes
    AVAILABLE = False
else:
    AVAILABLE = True

CHUNK = 512
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

if AVAILABLE:
    _kernel.bind(Tensor, torch.nn.Parameter, torch._C._len_torch_function_stack, *DTYPES)


class HostMeter:
    """Rows of five doubles that the kernel writes."""

    def __init__(self) -> None:
        self.used = 0
        self._full: list[Floats] = []
        self._begin_chunk(CHUNK)

    def plain(self, tensor: Tensor) -> int | None:
        """The row of a plain contiguous tensor, at the price of one call; None when it is anything else."""
        if not self._left:
            self._next_chunk(CHUNK)
        if not _kernel.measure(tensor, self._address):
            return None
        return self._advance(1)

    def measure(self, flat: Tensor) -> int:
        """Measure the elements of a flat, real tensor. Returns its row."""
        if not self._left:
            self._next_chunk(CHUNK)
        self._reduce(flat, self._address)
        return self._advance(1)

    def measure_all(self, flats: Sequence[Tensor]) -> list[int]:
        """The same for many tensors."""
        return [self.measure(flat) for flat in flats]

    def all_plain(self, tensors: list[Tensor]) -> tuple[int, list[int]]:
        """The first of the rows of many tensors, and which of them were not plain: those rows are unmeasured."""
        return self._all(tensors, _kernel.measure_all)

    def estimated(self, tensors: list[Tensor]) -> tuple[int, list[int]]:
        """As `all_plain`, from a sample of the elements of large tensors."""
        return self._all(tensors, _kernel.estimate_all)

    def moved(self, pairs: list[tuple[Tensor, bytes]]) -> tuple[int, list[int]]:
        """The rows of the differences between tensors and what `save` had saved of them; otherwise as `all_plain`."""
        return self._all(pairs, _kernel.compare)

    def send(self) -> OnHost:
        """All rows; their memory is free again."""
        rows = np.concatenate([*self._full, self._chunk[: self._filled()]])
        self._full.clear()
        self._rewind()
        self.used = 0
        return OnHost(rows)

    def _all(self, items: list[Any], work: Callable[[list[Any], int], list[int]]) -> tuple[int, list[int]]:
        if self._left < len(items):
            self._next_chunk(len(items))
        left = work(items, self._address)
        start = self._filled()
        for i in left:
            self._chunk[start + i] = UNMEASURED
        return self._advance(len(items)), left

    def _reduce(self, flat: Tensor, address: int) -> None:
        elements = flat.resolve_neg()
        _kernel.reduce(elements.data_ptr(), elements.numel(), DTYPES.index(elements.dtype), address)

    def _advance(self, rows: int) -> int:
        first = self.used
        self.used += rows
        self._left -= rows
        self._address += rows * self._chunk.strides[0]
        return first

    def _filled(self) -> int:
        return len(self._chunk) - self._left

    def _next_chunk(self, least: int) -> None:
        self._full.append(self._chunk[: self._filled()])
        self._begin_chunk(max(CHUNK, least))

    def _begin_chunk(self, rows: int) -> None:
        self._chunk: Floats = np.empty((rows, len(UNMEASURED)))
        self._rewind()

    def _rewind(self) -> None:
        self._left = len(self._chunk)
        self._address = int(self._chunk.ctypes.data)


def save(tensors: list[Tensor]) -> list[bytes | None]:
    """A sample of each tensor's elements, to compare with later; None where a tensor is not plain."""
    return _kernel.save(tensors)


def finite(tensors: list[Tensor]) -> bool | None:
    """Whether no plain CPU tensor of these holds NaN or Inf; None when one of them is anything else."""
    return _kernel.finite(tensors) if AVAILABLE else None


def marks(parameters: list[Tensor]) -> bytes:
    """Of each parameter's gradient its id and version, as two int64; zeros where there is none."""
    return _kernel.marks(parameters)


def versions(parameters: list[Tensor]) -> bytes:
    """How often each parameter's gradient was written to, as one int64; -1 where there is none."""
    return _kernel.versions(parameters)
