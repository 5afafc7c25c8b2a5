"""Statistics of one tensor, written into preallocated cells on the tensor's own device.

Nothing here waits for a device, draws a random number, or touches a gradient: four reductions with `out=`.
"""

from contextlib import AbstractContextManager, ExitStack

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)
HALF = (torch.float16, torch.bfloat16)
WIDE = (torch.float64, torch.complex128)
MEASURABLE = (torch.float32, torch.complex64, *HALF, *WIDE)

ROW = 1 << 15
LARGE = 1 << 20

Cells = tuple[Tensor, Tensor, Tensor, Tensor]


def obstacle(tensor: Tensor) -> str | None:
    """Why this tensor cannot be measured; None when it can."""
    if type(tensor) not in PLAIN:
        return f"a tensor subclass ({type(tensor).__name__})"
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.dtype not in MEASURABLE:
        return f"a tensor of dtype {dtype_name(tensor)}"
    if tensor.device.type == "meta":
        return "a tensor without data (meta)"
    return "an empty tensor" if tensor.numel() == 0 else None


def dtype_name(tensor: Tensor) -> str:
    """The dtype without torch's prefix: "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def cell_dtype(tensor: Tensor) -> torch.dtype:
    """What a tensor's statistics are accumulated in."""
    return torch.float64 if tensor.dtype in WIDE else torch.float32


def flatten(tensor: Tensor) -> Tensor:
    """The elements in one dimension, in memory order; without a copy when the layout is dense."""
    if tensor._is_zerotensor():  # autograd's zero without memory, as the gradient of sgn
        return torch.zeros(tensor.numel(), dtype=cell_dtype(tensor), device=tensor.device)
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_contiguous():
        return tensor.view(-1)
    if torch.ops.aten.is_non_overlapping_and_dense(tensor):
        return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    return tensor.reshape(-1)


def unflatten(flat: Tensor, like: Tensor) -> Tensor:
    """The inverse of `flatten`: its elements in the shape of a tensor of the same layout."""
    whole = torch.empty_like(like)
    flatten(whole).copy_(flat)
    return whole


def write(tensor: Tensor, cells: Cells) -> None:
    """Write sum, L2 norm, min and max of a measurable tensor into four cells of `cell_dtype`."""
    flat = _wide(tensor)
    total, norm, low, high = cells
    torch.sum(flat, 0, out=total)
    _norm(flat, norm)
    torch.aminmax(flat, out=(low, high))


def write_extremes(tensor: Tensor, cells: Cells) -> None:
    """Write only min and max, exact in every dtype; both are NaN where the tensor holds NaN."""
    flat = _wide(tensor)
    torch.aminmax(flat, out=cells[2:])


def write_norm(tensor: Tensor, cells: Cells) -> None:
    """Write only the L2 norm."""
    _norm(_wide(tensor), cells[1])


def _norm(flat: Tensor, out: Tensor) -> None:
    """The L2 norm. On the CPU torch adds up squares one after the other, so large tensors are taken in rows."""
    if flat.numel() < LARGE or flat.device.type != "cpu":
        torch.linalg.vector_norm(flat, out=out)
        return
    whole = flat.numel() // ROW * ROW
    rows = torch.linalg.vector_norm(flat[:whole].view(-1, ROW), dim=1)
    rest = torch.linalg.vector_norm(flat[whole:]).view(1)
    torch.linalg.vector_norm(torch.cat([rows, rest]), out=out)


def _wide(tensor: Tensor) -> Tensor:
    """The elements, flat; half precision widened, because its native sum overflows at 65504."""
    flat = flatten(tensor)
    return flat.float() if flat.dtype in HALF else flat


class undisturbed:  # noqa: N801  used like a function, and a generator would cost more than what it wraps
    """Run our own arithmetic without a graph and without autocast."""

    def __enter__(self) -> None:
        self._grad = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        self._autocast = torch._C._DisableAutocast() if torch._C._is_any_autocast_enabled() else None
        if self._autocast is not None:
            self._autocast.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._autocast is not None:
            self._autocast.__exit__(*error)
        torch._C._set_grad_enabled(self._grad)


def out_of_sight() -> AbstractContextManager[object]:
    """What every hook of ours runs in: the user's subclasses and modes see nothing of what it reads or computes."""
    if not torch._C._len_torch_dispatch_stack():
        return torch._C.DisableTorchFunction()
    stack = ExitStack()
    stack.enter_context(torch._C.DisableTorchFunction())
    stack.enter_context(torch.utils._python_dispatch._disable_current_modes())
    return stack
