"""The log of one step: where each measurement went, and how it becomes a frozen `Step` once it has arrived."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.hooks.states import Usage
from gradscope.hooks.transfer import Ticket, Transfer, stored
from gradscope.records import UNMEASURED, Call, EventKind, Floats, LoopEvent, Step, StepEnd

MOST_EVENTS = 64


class Entry(NamedTuple):
    """One measurement: of which site, under which ticket, in which backward (-1: forward), of what share."""

    site: int
    ticket: Ticket
    task: int = -1
    scale: float = 1.0


@dataclass
class StepLog:
    """What has been measured in one step so far.

    `entries` of one site merge (calls, micro-batches); of `latest`, the last measurement of a site counts
    (parameters). `mark` is where the forward began that followed the last backward.
    """

    index: int
    observed: bool
    entries: list[Entry] = field(default_factory=list)
    latest: dict[int, Entry] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    events: list[tuple[LoopEvent, Usage]] = field(default_factory=list)
    tasks: set[int] = field(default_factory=set)
    transfers: list[Transfer] = field(default_factory=list)
    backwards: int = 0
    mark: int = 0
    end: StepEnd = StepEnd.OPEN

    def add_event(self, event: LoopEvent, usage: Usage | None = None) -> None:
        """Note a loop event and the measurements that belong to it."""
        if len(self.events) < MOST_EVENTS or event.kind is EventKind.STEP:
            self.events.append((event, usage or Usage()))

    def add_call(self, row: int, flags: Call) -> None:
        """Note how a module ran."""
        self.calls[row] = self.calls.get(row, Call.NONE) | flags

    def split(self) -> "StepLog":
        """Cut off the forward after the last backward, as the beginning of the next step."""
        later = StepLog(self.index + 1, self.observed, self.entries[self.mark :], calls=dict(self.calls))
        del self.entries[self.mark :]
        return later

    def ready(self) -> bool:
        """Whether everything has arrived."""
        return all(transfer.ready() for transfer in self.transfers)

    def freeze(self, sites: int, modules: int) -> Step:
        """The step as data. Waits for what has not arrived."""
        arrived = {transfer.number: transfer.read() for transfer in self.transfers}
        table = _Arrived(arrived)
        return Step(
            self.index,
            StepEnd.CLEARED if self._skipped(table) else self.end,
            tuple(_event(event, usage, table) for event, usage in self.events),
            self._stored(table, sites) if self.observed else None,
            self._calls(modules) if self.observed else None,
        )

    def _skipped(self, arrived: "_Arrived") -> bool:
        """Whether optimizers stepped, and a loss scaler made all of them move nothing."""
        steps = [usage for event, usage in self.events if event.kind is EventKind.STEP]
        return bool(steps) and all(_skipped(usage, arrived) for usage in steps)

    def _stored(self, arrived: "_Arrived", sites: int) -> Floats:
        rows = np.tile(UNMEASURED, (sites, 1))
        _merge(rows, self._counted(), arrived)
        rows[list(self.latest)] = UNMEASURED
        _merge(rows, self.latest.values(), arrived)
        return rows

    def _counted(self) -> Iterable[Entry]:
        """Without the passes of autograd.grad, when the step has backward passes that filled `.grad`."""
        return (e for e in self.entries if e.task < 0 or not self.tasks or e.task in self.tasks)

    def _calls(self, modules: int) -> NDArray[np.uint8]:
        flags = np.zeros(modules, np.uint8)
        flags[list(self.calls)] = list(self.calls.values())
        return flags


class _Arrived:
    """Looks up tickets in what has arrived."""

    def __init__(self, sendings: dict[int, list[Floats]]) -> None:
        self._sendings = sendings

    def rows(self, tickets: Sequence[Ticket]) -> Floats:
        return np.array([self._sendings[t.sending][t.cells][t.row] for t in tickets]).reshape(-1, 4)

    def norms(self, tickets: Iterable[Ticket]) -> Floats:
        return self.known(tickets)[:, 1]

    def known(self, tickets: Iterable[Ticket]) -> Floats:
        """Rows of the tickets that belong to this step."""
        return self.rows([ticket for ticket in tickets if ticket.sending in self._sendings])


def _merge(rows: Floats, entries: Iterable[Entry], arrived: _Arrived) -> None:
    chosen = list(entries)
    if not chosen:
        return
    sites = np.array([entry.site for entry in chosen])
    scale = np.array([entry.scale for entry in chosen])
    counts = np.array([entry.ticket.elements for entry in chosen], float)
    values = stored(arrived.rows([entry.ticket for entry in chosen]), counts)
    with np.errstate(invalid="ignore", over="ignore"):
        np.add.at(rows[:, :3], sites, values[:, :3] * scale[:, None])
        np.minimum.at(rows[:, 3], sites, values[:, 3])
        np.maximum.at(rows[:, 4], sites, values[:, 4])


def _event(event: LoopEvent, usage: Usage, arrived: _Arrived) -> LoopEvent:
    if event.kind is not EventKind.STEP:
        return event
    extremes = arrived.known(() if _skipped(usage, arrived) else usage.checked)[:, 2:]
    return replace(
        event,
        reused=usage.reused if np.any(arrived.norms(usage.left) != 0) else (),
        cleared=usage.cleared + (usage.perhaps_cleared if _vanished(usage, arrived.norms) else ()),
        non_finite=bool(not np.all(np.isfinite(extremes))) if len(extremes) else None,
    )


def _skipped(usage: Usage, arrived: _Arrived) -> bool:
    return bool(np.any(arrived.norms(usage.skipped) != 0))


def _vanished(usage: Usage, norms: Callable[[Iterable[Ticket]], Floats]) -> bool:
    applied, incoming = norms(usage.applied), norms(usage.incoming)
    return bool(len(applied) and np.all(applied == 0) and np.any(incoming != 0))
