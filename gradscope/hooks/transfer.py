"""The way of the numbers from the tensors' devices to the host: measured now, read later.

A `Readback` has a meter for each device. `send()` starts one copy per device to the host and gives a
`Transfer`, which is read when it has arrived; nobody waits for it while the training runs.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.copies import Saved
from gradscope.hooks.meters import host
from gradscope.hooks.meters.choice import best
from gradscope.hooks.meters.meter import Meter, OnHost, Pending
from gradscope.hooks.statistics import undisturbed
from gradscope.records import UNMEASURED, Floats

# Where one measurement will be found, in one number: bits for its sending, its meter and its row.
Ticket: TypeAlias = int

METER_BITS, ROW_BITS = 8, 32
ROWS = (1 << ROW_BITS) - 1
UNMEASURABLE = -1
SENDINGS = 1 << 20  # tickets of older sendings are long gone when numbers come again


class Transfer:
    """Measurements on their way to the host: everything between two sendings."""

    def __init__(self, number: int, pending: list[Pending], scales: dict[Ticket, float]) -> None:
        self._first = number << METER_BITS
        self._pending = pending
        self._scales = scales
        self._tables: dict[int, Floats] | None = None

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return self._tables is not None or all(pending.ready() for pending in self._pending)

    def finite(self) -> bool:
        """Whether it is known already that no tensor held NaN or Inf."""
        return all(isinstance(pending, OnHost) and pending.finite for pending in self._pending)

    def tables(self) -> dict[int, Floats]:
        """Stored statistics (rows, 5) of each meter, by what its tickets begin with. Waits when not `ready`."""
        if self._tables is None:
            self._tables = {self._first + i: pending.read() for i, pending in enumerate(self._pending)}
            self._pending = []
            for ticket, scale in self._scales.items():
                self._tables[ticket >> ROW_BITS][ticket & ROWS, :3] *= scale
        return self._tables


class Arrived:
    """Looks up tickets in what has arrived."""

    def __init__(self, transfers: Iterable[Transfer]) -> None:
        self._tables = {key: table for transfer in transfers for key, table in transfer.tables().items()}

    def only_table(self) -> Floats | None:
        """All there is, when that is one table."""
        return next(iter(self._tables.values())) if len(self._tables) == 1 else None

    def rows(self, tickets: Sequence[Ticket] | NDArray[np.int64]) -> Floats:
        """Stored statistics of shape (tickets, 5)."""
        wanted = np.asarray(tickets, np.int64)
        if not len(wanted):
            return np.empty((0, len(UNMEASURED)))
        keys, rows = wanted >> ROW_BITS, wanted & ROWS
        if (keys == keys[0]).all():
            return np.asarray(self._tables[int(keys[0])][rows])
        found = np.empty((len(wanted), len(UNMEASURED)))
        for key in set(keys.tolist()):
            found[keys == key] = self._tables[key][rows[keys == key]]
        return found

    def known(self, tickets: Iterable[Ticket]) -> Floats:
        """The rows of those tickets that are among what has arrived."""
        return self.rows([ticket for ticket in tickets if ticket >> ROW_BITS in self._tables])

    def norms(self, tickets: Iterable[Ticket]) -> Floats:
        """The L2 norms behind the known tickets."""
        return np.sqrt(self.known(tickets)[:, 2])


class Readback:
    """Measures tensors on the devices where they are, and sends what was measured to the host."""

    def __init__(self) -> None:
        self._sending = 0
        self._host = host.HostMeter() if host.AVAILABLE else None
        self.rows = None if self._host is None else self._host.rows
        self._meters: list[Meter] = [] if self._host is None else [self._host]
        self._index: dict[tuple[torch.device, torch.dtype], int] = {}
        self._scales: dict[Ticket, float] = {}
        self._base = 0

    @property
    def used(self) -> int:
        """How many rows wait to be sent."""
        return sum(meter.used for meter in self._meters)

    def plain(self, tensor: Tensor) -> Ticket | None:
        """Measure a plain contiguous tensor on the CPU without a call of torch's; None for any other tensor."""
        row = None if self.rows is None else self.rows.measure(tensor)
        return None if row is None else self._base | row

    def measure(self, tensor: Tensor) -> Ticket:
        """Start measuring a tensor that has no `statistics.obstacle`."""
        with undisturbed():
            flat = statistics.flatten(tensor)
            index = self._meter_of(flat)
            return self._ticket(index, self._meters[index].measure(flat))

    def measure_all(self, tensors: list[Tensor]) -> Sequence[Ticket]:
        """Start measuring many tensors, at once where that is cheaper; -1 where a tensor cannot be measured."""
        return self._all(tensors, sampled=False)

    def estimate_all(self, tensors: list[Tensor]) -> Sequence[Ticket]:
        """The same from a sample of the elements of large tensors, scaled to the whole."""
        return self._all(tensors, sampled=True)

    def _all(self, tensors: list[Tensor], *, sampled: bool) -> Sequence[Ticket]:
        if self.rows is None:
            tickets: Sequence[Ticket] = [UNMEASURABLE] * len(tensors)
            left: Sequence[int] = range(len(tensors))
        else:
            first, left = self.rows.estimate_all(tensors) if sampled else self.rows.measure_all(tensors)
            tickets = range(self._base | first, (self._base | first) + len(tensors))
        if not left:
            return tickets
        with undisturbed():
            return self._others(tensors, list(tickets), left, sampled=sampled)

    def _others(
        self, tensors: list[Tensor], tickets: list[Ticket], left: Sequence[int], *, sampled: bool
    ) -> list[Ticket]:
        flats = {i: statistics.flatten(tensors[i]) for i in left if statistics.obstacle(tensors[i]) is None}
        sizes = {i: len(flat) for i, flat in flats.items()}
        if sampled:
            flats = {i: statistics.sample(flat) for i, flat in flats.items()}
        groups: dict[int, list[int]] = {}
        for i, flat in flats.items():
            groups.setdefault(self._meter_of(flat), []).append(i)
        for index, group in groups.items():
            for i, row in zip(group, self._meters[index].measure_all([flats[i] for i in group]), strict=True):
                tickets[i] = self._ticket(index, row)
                self._scale(tickets[i], sizes[i] / len(flats[i]))
        for i in left:
            if i not in flats:
                tickets[i] = UNMEASURABLE
        return tickets

    def gradients(self, parameters: list[Tensor]) -> Sequence[Ticket]:
        """Measure the gradient of each parameter, at once; -1 where there is none or it cannot be measured."""
        first = None if self.rows is None else self.rows.measure_gradients(parameters)
        if first is not None:
            return range(self._base | first, (self._base | first) + len(parameters))
        found = {i: gradient for i, each in enumerate(parameters) if (gradient := each.grad) is not None}
        tickets = dict(zip(found, self.measure_all(list(found.values())), strict=True))
        return [tickets.get(i, UNMEASURABLE) for i in range(len(parameters))]

    def stepped(self, tensors: list[Tensor], saved: list[Saved]) -> tuple[Sequence[Ticket], Sequence[Ticket]]:
        """What `estimate_all` says of tensors, and `moved`, at once where that is cheaper."""
        first = None if self.rows is None else self.rows.measure_step(tensors, saved)
        if first is None:
            return self.estimate_all(tensors), self.moved(tensors, saved)
        middle = (self._base | first) + len(tensors)
        return range(self._base | first, middle), range(middle, middle + len(tensors))

    def moved(self, tensors: Sequence[Tensor], saved: Sequence[Saved]) -> Sequence[Ticket]:
        """Measure how far tensors have moved from what was saved of them; -1 where they cannot be compared."""
        pairs = [(tensor, before) for tensor, before in zip(tensors, saved, strict=True) if isinstance(before, bytes)]
        tickets: Sequence[Ticket] = ()
        if self.rows is not None:
            first, left = self.rows.compare(pairs)
            tickets = range(self._base | first, (self._base | first) + len(pairs))
            if left:
                tickets = [UNMEASURABLE if i in left else ticket for i, ticket in enumerate(tickets)]
        if len(pairs) == len(tensors):
            return tickets
        compared, others = iter(tickets), self._differences(tensors, saved)
        return [
            next(compared) if isinstance(before, bytes) else others.get(i, UNMEASURABLE)
            for i, before in enumerate(saved)
        ]

    def send(self) -> Transfer:
        """Start copying everything measured so far; the rows are free again."""
        if len(self._meters) == 1 and self._host is not None:
            pending: list[Pending] = [self._host.send()]
        else:
            with undisturbed():
                pending = [meter.send() for meter in self._meters]
        transfer = Transfer(self._sending, pending, self._scales)
        self._sending = (self._sending + 1) % SENDINGS
        self._base = self._sending << METER_BITS + ROW_BITS
        if self.rows is not None:
            self.rows.base = self._base
        self._scales = {}
        return transfer

    def _differences(self, tensors: Sequence[Tensor], saved: Sequence[Saved]) -> dict[int, Ticket]:
        """How far tensors have moved from the copies that were made of them, by their index."""
        found: dict[int, tuple[Tensor, Tensor, float]] = {}
        with undisturbed():
            for i, (tensor, before) in enumerate(zip(tensors, saved, strict=True)):
                if not isinstance(before, Tensor) or statistics.obstacle(tensor) is not None:
                    continue
                flat = statistics.flatten(tensor)
                after = statistics.sample(flat)
                if after.shape == before.shape and after.device == before.device:
                    found[i] = after, before, len(flat) / len(after)
            if not found:
                return {}
            afters, befores, _ = zip(*found.values(), strict=True)
            moved = torch._foreach_sub(
                [statistics.widened(flat) for flat in afters], [statistics.widened(flat) for flat in befores]
            )
        tickets = dict(zip(found, self.measure_all(list(moved)), strict=True))
        for i, ticket in tickets.items():
            self._scale(ticket, found[i][2])
        return tickets

    def _scale(self, ticket: Ticket, scale: float) -> None:
        if scale > 1:
            self._scales[ticket] = scale

    def _ticket(self, index: int, row: int) -> Ticket:
        return self._base | index << ROW_BITS | row

    def _meter_of(self, flat: Tensor) -> int:
        key = (flat.device, flat.dtype)
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = self._add(best(flat, self._meters))
        return index

    def _add(self, meter: Meter) -> int:
        if not any(meter is known for known in self._meters):
            self._meters.append(meter)
        return next(i for i, known in enumerate(self._meters) if known is meter)
