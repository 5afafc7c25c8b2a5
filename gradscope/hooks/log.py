"""The log of one step: where each measurement went, and how it becomes a frozen `Step` once it has arrived."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradscope.events import Change, Changed, EventKind, LoopEvent
from gradscope.hooks.transfer import ROWS, Arrived, Ticket, Transfer
from gradscope.hooks.usage import NOTHING, Usage
from gradscope.records import UNMEASURED, Floats, Statistic, Step, StepEnd, derive

MOST_EVENTS = 64

FORWARD = -1
NO_NUMBERS = np.empty(0, np.int64)


class Entries:
    """Measurements in columns: of which site, under which ticket, in which backward (`FORWARD`: in none)."""

    NAMES = ("sites", "tickets", "tasks")
    __slots__ = NAMES

    def __init__(self) -> None:
        self.sites, self.tickets, self.tasks = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self.sites)

    def add(self, site: int, ticket: Ticket, task: int = FORWARD) -> None:
        """Add one measurement."""
        self.sites.append(site)
        self.tickets.append(ticket)
        self.tasks.append(task)

    def extend(self, sites: Sequence[int], tickets: Sequence[Ticket]) -> None:
        """Add measurements that belong to no backward."""
        self.sites.extend(sites)
        self.tickets.extend(tickets)
        self.tasks.extend([FORWARD] * len(sites))

    def rows(self) -> tuple[bytes, bytes]:
        """The sites, and the rows of their tickets, as bytes of int64."""
        tickets = np.frombuffer(self.tickets, np.int64) if self.tickets else NO_NUMBERS
        return self.sites.tobytes(), (tickets & ROWS).tobytes()

    def cut(self, start: int) -> "Entries":
        """Take away those from `start` on."""
        later = Entries()
        for name in self.NAMES:
            column = getattr(self, name)
            setattr(later, name, column[start:])
            del column[start:]
        return later


@dataclass
class StepLog:
    """What has been measured in one step so far.

    `entries` of one site merge (calls, micro-batches); of `latest`, the last measurement of a site counts
    (parameters). `mark` is where the forward began that followed the last backward.
    """

    index: int
    observed: bool
    entries: Entries = field(default_factory=Entries)
    latest: Entries = field(default_factory=Entries)
    calls: dict[int, int] = field(default_factory=dict)
    events: list[tuple[LoopEvent, Usage]] = field(default_factory=list)
    tasks: set[int] = field(default_factory=set)
    transfers: list[Transfer] = field(default_factory=list)
    backwards: int = 0
    mark: int = 0
    end: StepEnd = StepEnd.OPEN

    def add_event(self, event: LoopEvent, usage: Usage | None = None) -> None:
        """Note a loop event and the measurements that belong to it."""
        if len(self.events) < MOST_EVENTS or event.kind is EventKind.STEP:
            self.events.append((event, usage or NOTHING))

    def amend_event(self, **facts: object) -> None:
        """Note more of what the last loop event tells."""
        event, usage = self.events[-1]
        self.events[-1] = replace(event, **facts), usage  # type: ignore[arg-type]  # whoever noted it knows its fields

    def calm(self) -> bool:
        """Whether it is known already that nothing in it is wrong."""
        return _regular(self.events) and all(transfer.finite() for transfer in self.transfers)

    def split(self) -> "StepLog":
        """Cut off the forward after the last backward, as the beginning of the next step."""
        return StepLog(self.index + 1, self.observed, self.entries.cut(self.mark), calls=dict(self.calls))

    def ready(self) -> bool:
        """Whether everything has arrived."""
        return all(transfer.ready() for transfer in self.transfers)

    def steps(self, sites: int, modules: int) -> list[Step]:
        """The one step as data. Waits for what has not arrived."""
        return [self.freeze(sites, modules)]

    def freeze(self, sites: int, modules: int) -> Step:
        """The step as data. Waits for what has not arrived."""
        arrived = Arrived(self.transfers)
        return Step(
            self.index,
            StepEnd.CLEARED if self._skipped(arrived) else self.end,
            tuple(_event(event, usage, arrived) for event, usage in self.events),
            self._stored(arrived, sites) if self.observed else None,
            self._calls(modules) if self.observed else None,
        )

    def _skipped(self, arrived: Arrived) -> bool:
        """Whether optimizers stepped, and a loss scaler made all of them move nothing."""
        steps = [usage for event, usage in self.events if event.kind is EventKind.STEP]
        return bool(steps) and all(_skipped(usage, arrived) for usage in steps)

    def _stored(self, arrived: Arrived, sites: int) -> Floats:
        table = arrived.only_table()
        places = None if table is None or not self._all_counted() else self._places(sites)
        if table is not None and places is not None:
            return np.asarray(np.vstack((table, UNMEASURED))[places])
        rows = np.empty((sites, len(UNMEASURED)))
        rows[:] = UNMEASURED
        chosen, tickets, tasks = _columns(self.entries)
        if self.tasks:  # then what autograd.grad asked for, to whom no `.grad` is due, is left out
            counted = tasks == FORWARD
            for task in self.tasks:
                counted |= tasks == task
            chosen, tickets = chosen[counted], tickets[counted]
        _merge(rows, chosen, arrived.rows(tickets))
        chosen, tickets, _ = _columns(self.latest)
        rows[chosen] = arrived.rows(tickets)
        return rows

    def _all_counted(self) -> bool:
        return not self.tasks or self.tasks.issuperset(set(self.entries.tasks) - {FORWARD})

    def _places(self, sites: int) -> NDArray[np.intp] | None:
        """Of each site the row in the only table, -1 where there is none; None when measurements merge."""
        return _placed(sites, *(column for entries in (self.entries, self.latest) for column in entries.rows()))

    def _calls(self, modules: int) -> NDArray[np.uint8]:
        flags = np.zeros(modules, np.uint8)
        flags[list(self.calls)] = list(self.calls.values())
        return flags


@dataclass(slots=True)
class Passed:
    """Steps that went by at rest, one like the other: nothing was measured in them, and all of them is known."""

    first: int
    count: int
    events: list[tuple[LoopEvent, Usage]]

    @property
    def index(self) -> int:
        """The last one."""
        return self.first + self.count - 1

    def ready(self) -> bool:
        """Nothing is on its way."""
        return True

    def calm(self) -> bool:
        """Whether nothing in them is wrong."""
        return _regular(self.events)

    def steps(self, _sites: int, _modules: int) -> list[Step]:
        """The steps as data."""
        events = tuple(event for event, _ in self.events)
        return [Step(index, StepEnd.OPTIMIZER, events) for index in range(self.first, self.first + self.count)]


def _regular(events: list[tuple[LoopEvent, Usage]]) -> bool:
    return all(usage is NOTHING and not event.non_finite for event, usage in events)


def _columns(entries: Entries) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if not len(entries):
        return NO_NUMBERS, NO_NUMBERS, NO_NUMBERS
    sites, tickets, tasks = (np.frombuffer(getattr(entries, name), np.int64).copy() for name in Entries.NAMES)
    return sites, tickets, tasks


@lru_cache(maxsize=4)  # mostly a step measures what the one before it has measured, in the same order
def _placed(sites: int, merging: bytes, its: bytes, latest: bytes, theirs: bytes) -> NDArray[np.intp] | None:
    places = np.full(sites, -1, np.intp)
    once = np.frombuffer(merging, np.int64)
    if len(np.unique(once)) < len(once):
        return None
    places[once] = np.frombuffer(its, np.int64)
    places[np.frombuffer(latest, np.int64)] = np.frombuffer(theirs, np.int64)
    return places


def _merge(rows: Floats, sites: NDArray[np.int64], values: Floats) -> None:
    """Merge measurements into the rows of their sites, of which most have one."""
    if len(sites) and np.bincount(sites).max() == 1:
        rows[sites] = values
        return
    with np.errstate(invalid="ignore", over="ignore"):
        np.add.at(rows[:, :3], sites, values[:, :3])
        np.minimum.at(rows[:, 3], sites, values[:, 3])
        np.maximum.at(rows[:, 4], sites, values[:, 4])


def _event(event: LoopEvent, usage: Usage, arrived: Arrived) -> LoopEvent:
    if isinstance(event, Changed):
        before, after = arrived.rows(usage.before), arrived.rows(usage.after)
        return replace(event, changes=tuple(_changes(usage.changed, before, after)))
    if event.kind is not EventKind.STEP or usage is NOTHING:
        return event
    checked = arrived.known(() if _skipped(usage, arrived) else usage.checked)
    return replace(
        event,
        reused=usage.reused if np.any(arrived.norms(usage.left) != 0) else (),
        repeated=usage.repeated,
        shared=usage.shared,
        cleared=usage.cleared + (usage.perhaps_cleared if _vanished(usage, arrived) else ()),
        non_finite=bool(not np.all(np.isfinite(checked[:, 3:]))) if len(checked) else None,
    )


def _changes(parameters: Sequence[str], before: Floats, after: Floats) -> Iterator[Change]:
    """How gradients were, and what has become of them."""
    sizes = [(derive(rows, Statistic.NORM), derive(rows, Statistic.ABS_MAX)) for rows in (before, after)]
    for parameter, *numbers in zip(parameters, *(size.tolist() for pair in sizes for size in pair), strict=True):
        yield Change(parameter, *numbers)


def _skipped(usage: Usage, arrived: Arrived) -> bool:
    return bool(usage.skipped) and bool(np.any(arrived.norms(usage.skipped) != 0))


def _vanished(usage: Usage, arrived: Arrived) -> bool:
    applied, incoming = arrived.norms(usage.applied), arrived.norms(usage.incoming)
    return bool(len(applied) and np.all(applied == 0) and np.any(incoming != 0))
