"""A meter for CUDA and ROCm devices: a Triton kernel reads each tensor once and takes all of its statistics.

The programs that share a tensor write one slot each (`fused_kernels`); the host merges them when they have arrived.

Each stream writes slots of its own and copies them to the host in its own order, so no stream waits for another one.
While a CUDA graph is being captured nothing here may be called: the graph would write into these slots whenever it is
replayed, and to ask an event ends the capture with an error.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks.meters.fused_kernels import many, one
from gradscope.records import UNMEASURED, Floats

BLOCK = 4096  # elements: 32 for each thread of four warps
MOST_PARTS = 512  # programs: about four for each multiprocessor of an H100, so that some load while others reduce
CHUNK = 1 << 14  # slots of a first buffer: 512 KB
FIELDS = 4  # of a slot: sum, sum of squares, min, max
WIDEST_LOAD = 16  # bytes at once for a thread
OLDEST = (8, 0)  # the first compute capability that Triton supports
# Triton's default for products that are added differs between its versions.
OPTIONS: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": True}

ELEMENTS = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}

Parts = NDArray[np.int64]


@cache
def available(device: torch.device) -> bool:
    """Whether tensors of a device can be measured here. Compiles a kernel on the first call; never raises."""
    try:
        return _supported(device) and FusedMeter(device).measure(torch.zeros(1, device=device)) == 0
    except Exception:  # noqa: BLE001  no compiler, no driver, an unknown GPU: there is another meter for all of them
        return False


def _supported(device: torch.device) -> bool:
    if device.type != "cuda" or not isinstance(one, triton.JITFunction):  # Triton's interpreter would wait
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= OLDEST


class _Parcel(NamedTuple):
    """Slots on their way to the host: for which rows, of how many elements and slots each."""

    rows: list[int]
    counts: list[int]
    parts: list[int]
    slots: Tensor
    event: torch.cuda.Event | None


class Pending:
    """Rows on their way to the host."""

    def __init__(self, rows: int, parcels: list[_Parcel]) -> None:
        self._rows = rows
        self._parcels = parcels

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return all(parcel.event is None or parcel.event.query() for parcel in self._parcels)

    def read(self) -> Floats:
        """Stored statistics of shape (rows, 5). Waits when they are not `ready`."""
        table = np.tile(UNMEASURED, (self._rows, 1))  # what it stays where a launch has failed
        for parcel in self._parcels:
            if parcel.event is not None:
                parcel.event.synchronize()
            table[parcel.rows] = merged(parcel.slots.numpy(), np.array(parcel.counts, float), np.array(parcel.parts))
        return table


def merged(slots: Floats, counts: Floats, parts: Parts) -> Floats:
    """Stored statistics of shape (rows, 5) from slots (sum(parts), 4), elements (rows,) and slots per row (rows,)."""
    firsts = np.cumsum(parts) - parts
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.add.reduceat(slots[:, 0], firsts)
        squares = np.add.reduceat(slots[:, 1], firsts)
        low = np.minimum.reduceat(slots[:, 2], firsts)
        high = np.maximum.reduceat(slots[:, 3], firsts)
        same = (low == high) & ~np.isnan(squares)
        total = np.where(same, counts * low, total)
        squares = np.where(same, _square_of_constant(total, counts), squares)
    table = np.column_stack([counts, total, squares, low, high])
    table[np.isnan(squares), 1:] = np.nan
    return table


def _square_of_constant(total: Floats, counts: Floats) -> Floats:
    """The sum of squares, rounded so that the deviation that is derived from it is zero, not rounding noise."""
    square = (total / counts) ** 2
    squares = counts * square
    return np.where(squares / counts > square, np.nextafter(squares, 0.0), squares)


class _Lane:
    """What one stream measures: slots in the order of its launches, and whose they are."""

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None) -> None:
        self.device = device
        self._stream = stream
        self._full: list[Tensor] = []
        self._open(CHUNK)
        self._begin()

    def _open(self, slots: int) -> None:
        self._slots = torch.empty((slots, FIELDS), dtype=torch.float64, device=self.device)
        self._used = 0

    def _begin(self) -> None:
        self._rows: list[int] = []
        self._counts: list[int] = []
        self._parts: list[int] = []

    def take(self, rows: Sequence[int], counts: list[int], parts: list[int]) -> tuple[Tensor, int]:
        """Slots that follow one another: the buffer they are in, and the first of them."""
        needed = sum(parts)
        if self._used + needed > len(self._slots):
            # Twice as large, so that soon one copy is enough. The full one goes when the stream has copied it.
            self._full.append(self._slots[: self._used])
            self._open(max(2 * len(self._slots), needed))
        self._rows += rows
        self._counts += counts
        self._parts += parts
        self._used += needed
        return self._slots, self._used - needed

    def send(self) -> _Parcel:
        """Start copying the slots; what the stream does later may write to them again."""
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            host = torch.empty((sum(self._parts), FIELDS), dtype=torch.float64, pin_memory=self._stream is not None)
            start = 0
            for slots in (*self._full, self._slots[: self._used]):
                host[start : start + len(slots)].copy_(slots, non_blocking=True)
                start += len(slots)
            event = None if self._stream is None else self._stream.record_event()
        parcel = _Parcel(self._rows, self._counts, self._parts, host, event)
        self._full.clear()
        self._used = 0
        self._begin()
        return parcel

    @property
    def idle(self) -> bool:
        """Whether there is nothing to send."""
        return not self._rows


class FusedMeter:
    """Rows of stored statistics of tensors on one device: float16, bfloat16, float32 and float64."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self.device = torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device
        self._index = self.device.index if on_gpu else -1
        self._lanes: dict[int, _Lane] = {}
        self.used = 0

    def measure(self, flat: Tensor) -> int:
        """Start measuring the elements of a flat, real, dense tensor that holds at least one. Returns its row."""
        elements = flat.resolve_neg()
        numel = elements.numel()
        parts = _parts(numel)
        with self._current():
            slots, first = self._lane().take((self.used,), [numel], [parts])
            self.used += 1
            one[(parts,)](elements, numel, slots, first, BLOCK, **OPTIONS)
        return self.used - 1

    def measure_all(self, flats: Sequence[Tensor]) -> list[int]:
        """The same for many tensors, in one launch for each dtype."""
        rows = list(range(self.used, self.used + len(flats)))
        self.used += len(flats)
        groups: dict[torch.dtype, list[int]] = {}
        for i, flat in enumerate(flats):
            groups.setdefault(flat.dtype, []).append(i)
        with self._current():
            for dtype, members in groups.items():
                self._launch([flats[i].resolve_neg() for i in members], [rows[i] for i in members], dtype)
        return rows

    def send(self) -> Pending:
        """Start copying all rows to the host; their memory is free again."""
        rows, self.used = self.used, 0
        return Pending(rows, [lane.send() for lane in self._lanes.values() if not lane.idle])

    def _current(self) -> AbstractContextManager[object]:
        """Triton launches on the current device."""
        return nullcontext() if self._index < 0 else torch.cuda.device(self._index)

    def _stream(self) -> int:
        return 0 if self._index < 0 else torch._C._cuda_getCurrentRawStream(self._index)

    def _lane(self) -> _Lane:
        key = self._stream()
        lane = self._lanes.get(key)
        if lane is None:
            stream = None if self._index < 0 else torch.cuda.current_stream(self.device)
            lane = self._lanes[key] = _Lane(self.device, stream)
        return lane

    def _launch(self, flats: list[Tensor], rows: list[int], dtype: torch.dtype) -> None:
        counts = [flat.numel() for flat in flats]
        parts = [_parts(count) for count in counts]
        addresses = [flat.data_ptr() for flat in flats]
        slots, first = self._lane().take(rows, counts, parts)
        aligned = not any(address % WIDEST_LOAD for address in addresses)
        table = self._upload(_table(addresses, counts, parts))
        many[(sum(parts),)](table, slots, first, ELEMENTS[dtype], aligned, BLOCK, **OPTIONS)

    def _upload(self, table: Tensor) -> Tensor:
        """The table on the device. Torch keeps its pinned memory until it is copied, and the copy until it is read."""
        return table if self._index < 0 else table.pin_memory().to(self.device, non_blocking=True)


def _table(addresses: list[int], counts: list[int], parts: list[int]) -> Tensor:
    """What `many` reads: for each program where its row is, then a row for each tensor."""
    rows = np.array([addresses, counts, np.cumsum(parts) - parts, parts], np.int64).T
    places = sum(parts) + rows.shape[1] * np.arange(len(rows))
    return torch.from_numpy(np.concatenate([np.repeat(places, parts), rows.ravel()]))


def _parts(numel: int) -> int:
    """How many programs share a tensor."""
    return min(MOST_PARTS, -(-numel // BLOCK))
