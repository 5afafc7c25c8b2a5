"""What can be measured of a tensor, and how its elements lie in memory; the quiet in which we measure."""

from contextlib import AbstractContextManager, ExitStack

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)
HALF = (torch.float16, torch.bfloat16)
WIDE = (torch.float64, torch.complex128)
MEASURABLE = (torch.float32, torch.complex64, *HALF, *WIDE)

FEW = 16
SAMPLED, RUN, RAREST = 4096, 16, 64  # as in meters/arithmetic.c


def obstacle(tensor: Tensor) -> str | None:
    """Why this tensor cannot be measured; None when it can."""
    return _of_kind(tensor) or _of_memory(tensor)


def _of_kind(tensor: Tensor) -> str | None:
    if type(tensor) not in PLAIN:
        return f"a tensor subclass ({type(tensor).__name__})"
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {str(tensor.layout).removeprefix('torch.')}"
    return None if tensor.dtype in MEASURABLE else f"a tensor of dtype {dtype_name(tensor)}"


def _of_memory(tensor: Tensor) -> str | None:
    if tensor.device.type == "meta":
        return "a tensor without data (meta)"
    if tensor.numel() == 0:
        return "an empty tensor"
    return "a tensor whose memory was freed" if _freed(tensor) else None


def _freed(tensor: Tensor) -> bool:
    try:
        return tensor.untyped_storage().nbytes() == 0 and not tensor._is_zerotensor()
    except NotImplementedError:  # a transform's wrapper has no memory of its own, and torch's operations see through it
        return False


def dtype_name(tensor: Tensor) -> str:
    """The dtype without torch's prefix: "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def flatten(tensor: Tensor) -> Tensor:
    """The elements in one dimension, in memory order; without a copy when the layout is dense."""
    if tensor._is_zerotensor():  # autograd's zero without memory, as the gradient of sgn
        wide = torch.float64 if tensor.dtype in WIDE else torch.float32
        return torch.zeros(tensor.numel(), dtype=wide, device=tensor.device)
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_contiguous():
        return tensor.view(-1)
    if torch.ops.aten.is_non_overlapping_and_dense(tensor):
        return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    return tensor.contiguous().view(-1)


def widened(flat: Tensor) -> Tensor:
    """The elements in at least single precision: a native sum of halves overflows at 65504."""
    return flat.float() if flat.dtype in HALF else flat


def sample(flat: Tensor) -> Tensor:
    """Some of the elements of a flat tensor, evenly spread in runs; all of them up to `SAMPLED`."""
    stride = len(flat) // SAMPLED
    if stride <= 1:
        return flat
    period = RUN * (min(stride, RAREST) | 1)  # odd: an even one would meet the same columns in each row of a matrix
    return flat[: len(flat) // period * period].view(-1, period)[:, :RUN].reshape(-1)


def some(tensor: Tensor, most: int = FEW) -> Tensor | None:
    """A copy of the first elements, to see later whether anybody has changed them; None of one that is not plain."""
    return None if obstacle(tensor) is not None else tensor.detach().reshape(-1)[:most].clone()


def begins_with(tensor: Tensor, known: Tensor | None) -> bool:
    """Whether the first elements are those that `some` has copied. Waits for a device."""
    now = None if known is None else some(tensor, len(known))
    return known is not None and now is not None and torch.equal(known, now)


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
