"""A few small gradients of each optimizer: they speak for all of them where values have to be looked at."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.glance import ZERO, glance
from gradscope.hooks.registry import Indices
from gradscope.hooks.transfer import Readback, Ticket

SAMPLE = 4
SMALL = 4096
MANY = 64


class Samples:
    """Chooses and looks at them, by the indices of their parameters."""

    def __init__(self, readback: Readback) -> None:
        self._readback = readback
        self._tensors: list[Tensor] = []
        self._owner: NDArray[np.int64] = np.empty(0, np.int64)
        self._owners: dict[int, Indices] = {}
        self._known: dict[bytes, list[int]] = {}

    def follow(self, tensors: list[Tensor]) -> None:
        """The parameters are others now."""
        self._tensors = tensors
        self._owner = np.zeros(len(tensors), np.int64)
        self._owners.clear()
        self._known.clear()

    def belong(self, owned: Indices, owner: int) -> None:
        """These parameters are an optimizer's."""
        if self._owners.get(owner) is owned:
            return
        if len(self._owners) >= MANY:  # a program that makes optimizers all the time
            self._owners.clear()
        self._owners[owner] = owned
        self._owner[owned] = owner
        self._known.clear()

    def of(self, indices: Indices) -> list[int]:
        """A few small ones for each optimizer, spread over the model; of the same indices always the same."""
        key = indices.tobytes()
        if key not in self._known:
            if len(self._known) > 2 * SAMPLE:
                self._known.clear()
            self._known[key] = list(self._chosen(indices))
        return self._known[key]

    def measured(self, sample: list[int]) -> dict[int, Ticket]:
        """Measure those that have a gradient, as far as it can be measured."""
        tickets = self._readback.gradients([self._tensors[i] for i in sample])
        return {i: ticket for i, ticket in zip(sample, tickets, strict=True) if ticket >= 0}

    def all_zero(self, sample: list[int]) -> bool:
        """Whether all are zero, as far as the host can tell at once."""
        return bool(sample) and self._seen(sample) == bytes([ZERO] * len(sample))

    def without_zeros(self, sample: list[int]) -> list[int]:
        """Those that are not zero, as far as the host can tell at once."""
        seen = self._seen(sample)
        return [] if seen is None else [i for i, what in zip(sample, seen, strict=True) if what != ZERO]

    def non_finite(self, sample: list[int]) -> bool:
        """Whether one of them holds NaN or Inf. Waits for the device."""
        gradients = (self._tensors[i].grad for i in sample)
        plain = (g for g in gradients if g is not None and statistics.obstacle(g) is None)
        return any(not torch.isfinite(gradient).all() for gradient in plain)

    def _chosen(self, indices: Indices) -> Iterator[int]:
        for owner in dict.fromkeys(self._owner[indices].tolist()):
            group: Sequence[int] = indices[self._owner[indices] == owner].tolist()
            small = [i for i in group if self._tensors[i].numel() <= SMALL] or [
                min(group, key=lambda i: self._tensors[i].numel())
            ]
            yield from small[:: max(1, len(small) // SAMPLE)][:SAMPLE]

    def _seen(self, sample: list[int]) -> bytes | None:
        """What a glance at these gradients tells."""
        gradients = [gradient for i in sample if (gradient := self._tensors[i].grad) is not None]
        return glance(gradients) if len(gradients) == len(sample) else None
