"""The way of the numbers from the device to the host: cells that are filled now and read later.

A `Readback` hands out cells on each tensor's device. `send()` starts one copy per device to the host and
gives a `Transfer`, which is read when it has arrived; nobody waits for it while the training runs.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.records import Floats

CHUNK = 256


class Ticket(NamedTuple):
    """Where one measurement will be found: in which sending, cells and row, and of how many elements it is."""

    sending: int
    cells: int
    row: int
    elements: int


@dataclass
class _Cells:
    """Rows of four cells on one device in one dtype, in chunks so that views of them stay valid."""

    device: torch.device
    dtype: torch.dtype
    chunks: list[Tensor] = field(default_factory=list)
    views: list[statistics.Cells] = field(default_factory=list)
    used: int = 0

    def take(self) -> int:
        if self.used == len(self.views):
            if self.used == CHUNK * len(self.chunks):
                with torch.inference_mode(mode=False):  # else nobody could write to it outside of that mode
                    self.chunks.append(torch.zeros((CHUNK, 4), dtype=self.dtype, device=self.device))
            total, norm, low, high = self.chunks[-1][self.used % CHUNK].unbind()
            self.views.append((total, norm, low, high))
        self.used += 1
        return self.used - 1

    def copy(self) -> Tensor:
        """A copy of the used rows on the host, perhaps still on its way."""
        rows = self.chunks[0] if len(self.chunks) == 1 else torch.cat(self.chunks)
        used, self.used = rows[: self.used], 0
        return to_host(used)


class Transfer:
    """Measurements on their way to the host: everything between two sendings."""

    def __init__(self, number: int, tables: list[Tensor]) -> None:
        self.number = number
        self._tables = tables
        self._arrived = arrival()

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return all(event.query() for event in self._arrived)

    def read(self) -> list[Floats]:
        """For each cells, rows of (sum, norm, min, max). Waits when it is not `ready`."""
        for event in self._arrived:
            event.synchronize()
        return [table.double().numpy() for table in self._tables]


class Readback:
    """Hands out cells, and sends what they hold to the host."""

    def __init__(self) -> None:
        self._sending = 0
        self._cells: list[_Cells] = []
        self._index: dict[tuple[torch.device, torch.dtype], int] = {}

    def measure(self, tensor: Tensor) -> Ticket:
        """Start measuring a tensor that has no `statistics.obstacle`."""
        ticket, cells = self._take(tensor)
        statistics.write(tensor, cells)
        return ticket

    def norm(self, tensor: Tensor) -> Ticket:
        """Start measuring nothing but the norm."""
        ticket, cells = self._take(tensor)
        statistics.write_norm(tensor, cells)
        return ticket

    def extremes(self, tensor: Tensor) -> Ticket:
        """Start measuring nothing but the smallest and the largest element."""
        ticket, cells = self._take(tensor)
        statistics.write_extremes(tensor, cells)
        return ticket

    def _take(self, tensor: Tensor) -> tuple[Ticket, statistics.Cells]:
        key = (tensor.device, statistics.cell_dtype(tensor))
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._cells)
            self._cells.append(_Cells(*key))
        cells = self._cells[index]
        row = cells.take()
        ticket = Ticket(self._sending, index, row, tensor.numel() * (2 if tensor.is_complex() else 1))
        return ticket, cells.views[row]

    @property
    def used(self) -> int:
        """How many rows wait to be sent."""
        return sum(cells.used for cells in self._cells)

    def send(self) -> Transfer:
        """Start copying everything measured so far; the cells are free again."""
        self._sending += 1
        return Transfer(self._sending - 1, [cells.copy() for cells in self._cells])


def to_host(tensor: Tensor) -> Tensor:
    """A detached copy of a tensor on the host; from CUDA it arrives later, see `arrival`."""
    if tensor._is_zerotensor():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.device.type != "cuda":
        return tensor.detach().to("cpu", copy=True)
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor.detach(), non_blocking=True)


def arrival() -> list[torch.cuda.Event]:
    """Events that say when the copies started so far have arrived; none where copies are immediate."""
    if not torch.cuda.is_initialized():
        return []
    events = []
    for device in range(torch.cuda.device_count()):
        with torch.cuda.device(device):
            event = torch.cuda.Event()
            event.record()
            events.append(event)
    return events


def stored(measured: Floats, counts: Floats) -> Floats:
    """Stored statistics (rows, 5) from rows of (sum, norm, min, max) and their element counts.

    The device squares in single precision, which ends at about 1e-19 and 1e19. Beyond, the largest magnitude
    stands for all elements: an upper bound, instead of a zero or an infinity that nobody computed.
    """
    norm, largest = measured[:, 1], np.abs(measured[:, 2:]).max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        lost = ((norm == 0) | np.isinf(norm)) & np.isfinite(largest) & (largest > 0)
        squares = np.where(lost, counts * largest**2, norm**2)
    return np.column_stack([counts, measured[:, 0], squares, measured[:, 2:]])
