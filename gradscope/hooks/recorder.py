"""Collects what the hooks measure, step by step, and hands it out as frozen recordings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.cadence import FIRST, Cadence
from gradscope.hooks.history import History
from gradscope.hooks.kept import Kept
from gradscope.hooks.log import FORWARD, Passed, StepLog
from gradscope.hooks.registry import Registry
from gradscope.hooks.tap import tap
from gradscope.hooks.traced import Traced, losses
from gradscope.hooks.transfer import Readback, Ticket
from gradscope.inventory import Inventory, OptimizerInfo
from gradscope.records import ROOT, GraphSummary, Kind, Recording, Site, Step, StepEnd
from gradscope.traces import Failure, Operation, Verification

FLUSH_ROWS = 8192

SiteKey = tuple[Kind, str, str]


@dataclass
class Recorder:
    """The growing record of a run.

    `keep` are patterns of module paths and parameter names whose raw tensors are kept too.
    """

    registry: Registry
    cadence: Cadence
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.readback = Readback()
        self.log = StepLog(0, self.cadence.observe(0))
        self.tap = tap(self.readback.rows, self.registry.places)
        self.tap.follow(self.log)
        self.sources: dict[str, tuple[str, ...]] = {}
        self.trace: Traced | None = None
        self.verifications: list[Verification] = []
        self._operations: tuple[Operation, ...] = ()
        self._stepped: Mapping[int, frozenset[str]] = {}
        self._losses: dict[int, float] = {}
        self.failure: Failure | None = None
        self.inventory = Inventory()
        self.optimizers: Callable[[], tuple[OptimizerInfo, ...]] = tuple  # who knows them
        self.lost: dict[str, None] = {}
        self.spent = 0.0
        self._total = 0.0
        self._paid = 0.0
        self._passed = 0
        self._ahead = 0
        self.on_passed: Callable[[int], object] = int  # who counts them, too
        self._early = (0.0, 0.0)
        self.observed_steps = 0
        self._sites: list[Site] = []
        self._index: dict[SiteKey, int] = {}
        self.history = History(lambda: (len(self._sites), len(self.registry.executed)))
        self.kept = Kept(self.keep)
        self._clock = (perf_counter(), 0.0)

    @property
    def observing(self) -> bool:
        """Whether statistics are taken in this step."""
        return self.log.observed

    @property
    def cost(self) -> float:
        """The share of the time that measuring took: of the steps after the first dense ones, if there are any."""
        seconds, paid = self._total - self._early[0], self._paid - self._early[1]
        if not seconds:
            seconds, paid = self._total, self._paid
        return min(1.0, paid / seconds) if seconds else 0.0

    @property
    def lately(self) -> int:
        """After the first, dense ones, one step in so many was observed; 0: none was."""
        later, seen = self.log.index - FIRST, self.observed_steps - FIRST
        if self.cadence.every is not None or later <= 0:
            return 1
        return round(later / seen) if seen > 0 else 0

    def lose(self, what: str) -> None:
        """Note, once, what could not be measured and why."""
        self.lost[what] = None

    def site(self, kind: Kind, module: str, module_type: str, name: str, tensor: Tensor, *aliases: str) -> int | None:
        """The index of a site, made when first seen; None when its tensor cannot be measured."""
        if not self._measurable(kind, module, name, tensor):
            return None
        key = (kind, module, name)
        if key not in self._index:
            self._index[key] = len(self._sites)
            dtype = statistics.dtype_name(tensor)
            self._sites.append(Site(kind, module, module_type, name, tuple(tensor.shape), dtype, aliases))
        return self._index[key]

    def measure(self, site: int, tensor: Tensor, task: int = FORWARD) -> Ticket | None:
        """Measure a tensor that merges with what the site already holds in this step; None if it cannot be measured."""
        ticket = self.readback.plain(tensor)
        if ticket is None:
            info = self._sites[site]
            if not self._measurable(info.kind, info.module, info.name, tensor):
                return None
            ticket = self.readback.measure(tensor)
        self.repeat(site, ticket, tensor, task)
        return ticket

    def _measurable(self, kind: Kind, module: str, name: str, tensor: Tensor) -> bool:
        reason = statistics.obstacle(tensor)
        if reason is not None and reason != "an empty tensor" and tensor.is_floating_point():
            self.lose(f"{kind} of {module or ROOT}{'.' * bool(name)}{name}: {reason}")
        return reason is None

    def repeat(self, site: int, ticket: Ticket, tensor: Tensor, task: int = FORWARD) -> None:
        """Give a site the measurement of another, because it is the same tensor."""
        self.log.entries.add(site, ticket, task)
        if self.keep:
            self._keep(site, tensor)

    def measured_last(
        self, sites: Sequence[int], tickets: Sequence[Ticket], kept: Iterable[Tensor | None] = ()
    ) -> None:
        """Note measurements that replace what the sites hold in this step. `kept` are their raw tensors."""
        self.log.latest.extend(sites, tickets)
        if self.keep:
            for site, tensor in zip(sites, kept, strict=False):
                if tensor is not None:
                    self._keep(site, tensor)

    def finish_step(self, end: StepEnd, *, split: bool = False, ahead: int = 0) -> None:
        """Close the current step; with `split`, the forward after its last backward begins the next one.

        `ahead` says how many steps have run after it already.
        """
        closed, passed = self.log, self._passed_by()
        following = closed.split() if split else StepLog(closed.index + 1, False)
        following.observed = following.observed if split else self.cadence.observe(following.index)
        closed.end = end
        self.log = following
        self.tap.follow(following)
        self._send(closed)
        if split:
            following.transfers.append(closed.transfers[-1])
        self.history.add(closed)
        self.observed_steps += closed.observed
        self._account(closed.index, observed=closed.observed, times=1 + passed + ahead - self._ahead)
        self._ahead = ahead

    def free(self) -> int:
        """How many steps after the open one will not be observed."""
        return self.cadence.free(self.log.index)

    def pass_on(self) -> None:
        """Close the open step, in which nothing was measured, and open one like it; `settle` makes up the accounts."""
        self.log.index += 1
        self._passed += 1

    def settle(self) -> None:
        """Note the steps that have passed."""
        passed = self._passed_by()
        if passed:
            self._account(self.log.index - 1, observed=False, times=passed)

    def _passed_by(self) -> int:
        """How many steps have passed since this was last asked. They are over now, but not yet paid."""
        passed, self._passed = self._passed, 0
        if passed:
            self.history.add(Passed(self.log.index - passed, passed, self.log.events))
            self.on_passed(passed)
        return passed

    def flush(self) -> None:
        """Start reading when very many measurements wait, as in a step of very many micro-batches."""
        if self.readback.used > FLUSH_ROWS:
            self._send(self.log)
            self.log.mark = len(self.log.entries)

    def collect(self, *, wait: bool = False) -> list[Step]:
        """The closed steps that have arrived since this was last asked; with `wait`, all of them."""
        self.settle()
        if self.trace is not None and (wait or self.trace.ready()):
            self._operations, self._stepped, self.trace = self.trace.operations(), self.trace.stepped, None
            self._losses |= losses(self._operations)
        return self.history.collect(wait=wait)

    def recording(self, *, complete: bool = False, with_open: bool = False) -> Recording:
        """What is known by now; with `with_open`, the step that has not ended too (waits for it)."""
        self.settle()
        steps = self.history.steps()
        if with_open and self.log.backwards:
            self._send(self.log)
            steps += (self._freeze(self.log),)
        return Recording(
            sites=tuple(self._sites),
            steps=steps,
            modules=tuple(self.registry.executed),
            parameters=self.registry.infos(),
            graph=GraphSummary(dict(self.sources)),
            operations=self._operations,
            stepped=dict(self._stepped),
            losses=dict(self._losses),
            verifications=tuple(self.verifications),
            failure=self.failure,
            lost=tuple(self.lost),
            inventory=replace(self.inventory, optimizers=self.optimizers()),
            complete=complete,
        )

    def open_is_notable(self) -> bool:
        """Whether what was measured in the step that has not ended is notable. Waits for the device."""
        if not self.observing:
            return False
        self._send(self.log)
        self.log.mark = len(self.log.entries)
        return self._freeze(self.log).notable

    def _keep(self, site: int, tensor: Tensor) -> None:
        info = self._sites[site]
        path = "" if info.path == ROOT else info.path
        if self.kept.wants(path, info.module):
            self.kept.add(self.log.index, info.kind, path, tensor)

    def _send(self, log: StepLog) -> None:
        log.transfers.append(self.readback.send())

    def _freeze(self, log: StepLog) -> Step:
        return log.freeze(len(self._sites), len(self.registry.executed))

    def _account(self, step: int, *, observed: bool, times: int = 1) -> None:
        now = (perf_counter(), self.spent + self.tap.spent)
        seconds, spent = now[0] - self._clock[0], now[1] - self._clock[1]
        self._total += seconds
        self._paid += self.cadence.account(step, seconds, spent, observed, times)
        if step <= FIRST:
            self._early = (self._total, self._paid)
        self._clock = now
