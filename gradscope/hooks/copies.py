"""Copies of tensors, of a sample of the large ones: to compare with later."""

from typing import TypeAlias

import torch
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.meters import host
from gradscope.hooks.statistics import undisturbed

# As bytes where the kernel has made it, of a plain tensor on the CPU; None of a tensor that cannot be measured.
Saved: TypeAlias = bytes | Tensor | None


def save(tensors: list[Tensor]) -> list[Saved]:
    """Copies of their elements as they are now, evenly spread ones of more than 4096."""
    saved: list[Saved] = [*host.save(tensors)] if host.AVAILABLE else [None] * len(tensors)
    if None not in saved:
        return saved
    left = [i for i, each in enumerate(saved) if each is None and statistics.obstacle(tensors[i]) is None]
    if left:
        with undisturbed():
            samples = [statistics.sample(statistics.flatten(tensors[i])) for i in left]
            copies = [torch.empty_like(sample) for sample in samples]
            torch._foreach_copy_(copies, samples)
        for i, copy in zip(left, copies, strict=True):
            saved[i] = copy
    return saved


def unchanged(tensor: Tensor, saved: Saved) -> bool:
    """Whether the elements that were copied are still the same. Waits for a device."""
    now = save([tensor])[0]
    if isinstance(now, Tensor) and isinstance(saved, Tensor):
        return now.dtype is saved.dtype and torch.equal(now, saved)
    return isinstance(now, bytes) and now == saved


def restored(saved: Saved, like: Tensor) -> Tensor | None:
    """What was copied of a tensor like this one, flat; None where nothing was."""
    return torch.frombuffer(bytearray(saved), dtype=like.dtype) if isinstance(saved, bytes) else saved
