"""Tensors on the CPU, each reduced in one pass by the compiled kernel, straight into rows on the host."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradscope.hooks.meters.meter import OnHost

try:
    from gradscope.hooks.meters import _kernel
except ImportError:  # installed without a C compiler: torch's own operations do the same, in more passes
    AVAILABLE = False
else:
    AVAILABLE = True

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

if AVAILABLE:
    _kernel.bind(Tensor, torch.nn.Parameter, torch._C._len_torch_function_stack, *DTYPES)


class HostMeter:
    """Rows that the kernel writes; it measures plain contiguous tensors at the price of one call."""

    def __init__(self) -> None:
        self.rows = _kernel.Rows()

    @property
    def used(self) -> int:
        """How many rows wait to be sent."""
        return self.rows.used

    def measure(self, flat: Tensor) -> int:
        """Measure the elements of a flat, real tensor. Returns its row."""
        elements = flat.resolve_neg()
        return self.rows.reduce(elements.data_ptr(), elements.numel(), DTYPES.index(elements.dtype))

    def measure_all(self, flats: Sequence[Tensor]) -> list[int]:
        """The same for many tensors."""
        return [self.measure(flat) for flat in flats]

    def send(self) -> OnHost:
        """All rows; their memory is free again."""
        finite = self.rows.finite
        return OnHost(self.rows.take(), finite)


def save(tensors: list[Tensor]) -> list[bytes | None]:
    """A sample of each tensor's elements, to compare with later; None where a tensor is not plain."""
    return _kernel.save(tensors)


def glance(tensors: list[Tensor]) -> bytes | None:
    """What plain CPU tensors hold, one byte each; None when one of them is anything else. See hooks/glance.py."""
    return _kernel.glance(tensors)


def marks(parameters: list[Tensor]) -> bytes:
    """Of each parameter's gradient its id and version, as two int64; zeros where there is none."""
    return _kernel.marks(parameters)


def held(marks: bytes) -> bytes:
    """Of such marks one byte each, 1 where there is a gradient."""
    return _kernel.held(marks)


def pattern(
    parameters: list[Tensor], sample: list[Tensor], modules: list[nn.Module], advance: bytes, rewritten: bool
) -> "_kernel.Pattern":
    """See hooks/pattern.py; `advance` is one int64 for each parameter."""
    return _kernel.Pattern(parameters, sample, modules, advance, rewritten)
