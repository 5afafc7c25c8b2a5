"""Tensors on any device, reduced by torch's own operations into cells on that device.

Slower than the meters that are made for a device, and always there. Sums are taken around a pivot, so that single
precision suffices for tensors whose mean is far from zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gradscope.hooks.meters.arrival import arrival, to_host
from gradscope.hooks.statistics import widened
from gradscope.records import Floats

CHUNK = 256
ROW = 1 << 15
LARGE = 1 << 20

Cells = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass
class EagerMeter:
    """Cells of (pivot, sum, norm, min, max) on one device in one dtype, in chunks so that views of them stay valid."""

    device: torch.device
    dtype: torch.dtype
    _chunks: list[Tensor] = field(default_factory=list)
    _views: list[Cells] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    @property
    def used(self) -> int:
        """How many rows wait to be sent."""
        return len(self._counts)

    def measure(self, flat: Tensor) -> int:
        """Start measuring the elements of a flat, real tensor. Returns its row."""
        row = len(self._counts)
        if row == len(self._views):
            self._grow()
        self._counts.append(flat.numel())
        write(flat, self._views[row])
        return row

    def measure_all(self, flats: Sequence[Tensor]) -> list[int]:
        """The same for many tensors."""
        return [self.measure(flat) for flat in flats]

    def send(self) -> "Sent":
        """Start copying all rows to the host; their memory is free again."""
        cells = self._chunks[0] if len(self._chunks) == 1 else torch.cat(self._chunks)
        counts, self._counts = self._counts, []
        return Sent(to_host(cells[: len(counts)]), counts)

    def _grow(self) -> None:
        with torch.inference_mode(mode=False):  # else nobody could write to it outside of that mode
            chunk = torch.zeros((CHUNK, 5), dtype=self.dtype, device=self.device)
        self._chunks.append(chunk)
        for cells in chunk:
            pivot, total, norm, low, high = cells.unbind()
            self._views.append((pivot, total, norm, low, high))


class Sent:
    """Cells on their way to the host."""

    def __init__(self, cells: Tensor, counts: list[int]) -> None:
        self._cells = cells
        self._counts = counts
        self._arrival = arrival()

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return all(event.query() for event in self._arrival)

    def read(self) -> Floats:
        """Stored statistics of shape (rows, 5). Waits when they are not `ready`."""
        for event in self._arrival:
            event.synchronize()
        return stored(self._cells.double().numpy(), np.array(self._counts, float))


def write(flat: Tensor, cells: Cells) -> None:
    """Write a pivot, sum and L2 norm of the distances from it, min and max."""
    wide = widened(flat)
    pivot, total, norm, low, high = cells
    first, middle, last = wide[0], wide[len(wide) // 2], wide[-1]
    torch.clamp(first, torch.minimum(middle, last), torch.maximum(middle, last), out=pivot)  # the median of the three
    apart = wide - pivot
    torch.sum(apart, 0, out=total)
    _norm(apart, norm)
    torch.aminmax(wide, out=(low, high))


def stored(cells: Floats, counts: Floats) -> Floats:
    """Stored statistics of shape (rows, 5) from cells of (pivot, sum, norm, min, max) and their element counts.

    The device squares in single precision, which ends at about 1e-19 and 1e19. Beyond, the largest distance
    from the pivot stands for all elements: an upper bound, instead of a zero or an infinity that nobody computed.
    """
    pivot, total, norm, low, high = cells.T
    with np.errstate(over="ignore", invalid="ignore"):
        farthest = np.maximum(high - pivot, pivot - low)
        lost = ((norm == 0) | np.isinf(norm)) & np.isfinite(farthest) & (farthest > 0)
        squares = np.where(lost, counts * farthest**2, norm**2)
        around = squares + 2 * pivot * total + counts * pivot**2
        held_inf = (np.isinf(low) | np.isinf(high)) & ~np.isnan(low)
        return np.column_stack([counts, total + counts * pivot, np.where(held_inf, np.inf, around), low, high])


def _norm(flat: Tensor, out: Tensor) -> None:
    """The L2 norm. On the CPU torch adds up squares one after the other, so large tensors are taken in rows."""
    if flat.numel() < LARGE or flat.device.type != "cpu":
        torch.linalg.vector_norm(flat, out=out)
        return
    whole = flat.numel() // ROW * ROW
    rows = torch.linalg.vector_norm(flat[:whole].view(-1, ROW), dim=1)
    rest = torch.linalg.vector_norm(flat[whole:]).view(1)
    torch.linalg.vector_norm(torch.cat([rows, rest]), out=out)
