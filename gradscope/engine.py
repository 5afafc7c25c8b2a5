"""Runs analyzers over recordings as they grow, and makes one finding of one cause."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from threading import Thread
from time import perf_counter
from typing import TypeAlias

from gradscope.analyzer import Analyzer, Request
from gradscope.findings import Finding, Severity
from gradscope.finiteness import pattern
from gradscope.records import Kind, Recording, Step
from gradscope.settings import is_spared

FIRST = 20
PERIOD = 1.0
SHARE = 0.002
AGAIN = 4
MOST_MARKS = 16
MOST_RESULTS = 1000
PATIENCE = 10.0
OUR_ANALYZERS = "gradscope.analyzers."

Results: TypeAlias = tuple[Finding | Request, ...]
News: TypeAlias = tuple[tuple[Finding, ...], tuple[Request, ...]]
Mark: TypeAlias = tuple[object, ...]


@dataclass
class Engine:
    """Remembers what was found; each analyzer sees every recording that it has reason to see.

    All run after the steps 0, 1, 2, 4, 8 and 16, `AGAIN` steps after a closer look was wanted, and at the end; else at
    most once in `PERIOD` seconds, and so rarely that they take no more than `SHARE` of the time. In between, exact
    ones (`every_step`) run as soon as a step has arrived that is notable in another way than those before it.
    `exempt` has an "analyzer:pattern" for each pattern of sites whose findings do not count.
    """

    analyzers: tuple[Analyzer, ...]
    exempt: tuple[str, ...] = ()
    _found: dict[tuple[str, str], Finding] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)
    _requested: set[Request] = field(default_factory=set)
    _marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=MOST_MARKS))
    _early: tuple[int, int] = (0, FIRST)
    _next: float = float("-inf")
    _price: float = 0.0
    _asked: float | None = None

    def due(self, arrived: Iterable[Step], now: float) -> bool:
        """Whether there is reason to run, given the steps that have just arrived and the time in seconds."""
        reasons = [self._is_news(step) or self._is_early(step) for step in arrived]
        due = now >= self._next or any(reasons)
        self._asked = now if due else None
        return due

    def run(self, recording: Recording, now: float) -> News:
        """Judge a recording at a time in seconds. Returns what is new, and which closer looks are wanted."""
        begin = perf_counter()
        early = bool(recording.steps) and self._is_early(recording.steps[-1])
        everything = early or recording.complete or now >= self._next
        new, requests = self._run(recording, everything)
        self._plan(recording, early, requests)
        if everything:
            waited = 0.0 if self._asked is None else now - self._asked  # for the recording, which is part of the price
            before, self._price = self._price, waited + perf_counter() - begin
            # One run may be dear by chance, and the first is: so of two the cheaper counts.
            self._next = now + max(PERIOD, min(before, self._price) / SHARE)
        self._asked = None
        return new, requests

    def _run(self, recording: Recording, everything: bool) -> News:
        new: list[Finding] = []
        requests: list[Request] = []
        for analyzer in self.analyzers:
            if not (everything or analyzer.every_step):
                continue
            results = tuple(self._counting(self._judged(analyzer, recording)))
            if analyzer.revocable:
                self._revoke(analyzer.name, results)
            for result in results:
                if isinstance(result, Request):
                    requests.append(result)
                elif (known := self._found.get(key := (result.analyzer, result.cause))) is None:
                    self._found[key] = result
                    new.append(result)
                elif known.location is None and result.location is not None:  # a trace has found the line
                    self._found[key] = result
        causes = {id(finding) for finding in self._causes()}
        return tuple(finding for finding in new if id(finding) in causes), tuple(requests)

    def findings(self) -> tuple[Finding, ...]:
        """All causes, most important first, each with what followed from it."""
        causes = {(f.analyzer, f.cause): f for f in self._causes()}
        for finding in self._ordered():
            cause = self._cause_of(finding)
            if cause is not finding:
                key = (cause.analyzer, cause.cause)
                causes[key] = causes[key].followed_by(finding)
        return tuple(sorted(causes.values(), key=_importance))

    def unjudged(self, recording: Recording) -> tuple[str, ...]:
        """Which analyzers could not judge, and why: that is not a pass."""
        measured = {site.kind for site in recording.sites}
        missing = [
            f"{analyzer.name} did not run: no {lacking[0]} was recorded"
            for analyzer in self.analyzers
            if recording.steps and (lacking := [kind for kind in Kind if kind in analyzer.needs - measured])
        ]
        return (*missing, *self._failed.values())

    def _revoke(self, analyzer: str, results: Results) -> None:
        """Forget what an analyzer has found and does not find any more."""
        current = {(result.analyzer, result.cause) for result in results if isinstance(result, Finding)}
        for key in [key for key in self._found if key[0] == analyzer and key not in current]:
            del self._found[key]

    def _is_news(self, step: Step) -> bool:
        """Whether it is notable, and not just as one before it."""
        if not step.notable or (mark := _mark(step)) in self._marks:
            return False
        self._marks.append(mark)
        return True

    def _is_early(self, step: Step) -> bool:
        first, end = self._early
        return first <= step.index < end

    def _plan(self, recording: Recording, early: bool, requests: Iterable[Request]) -> None:
        """Decide after which step all run again, whatever they cost."""
        last = recording.steps[-1].index if recording.steps else -1
        if early:
            self._early = max(last + 1, 2 * last), self._early[1]
        if not self._requested.issuperset(requests):
            self._requested.update(requests)
            again, (first, end) = last + AGAIN, self._early
            self._early = min(first, again) if first > last else again, max(end, again + FIRST)

    def _judged(self, analyzer: Analyzer, recording: Recording) -> Iterable[Finding | Request]:
        if analyzer.name in self._failed:
            return ()
        ours = type(analyzer).__module__.startswith(OUR_ANALYZERS)
        try:
            return _results(analyzer, recording) if ours else _bounded(analyzer, recording)
        except Exception as error:  # noqa: BLE001  an analyzer's break must not stop the user's training
            self._failed[analyzer.name] = f"{analyzer.name} failed: {error!r}"
            return ()

    def _counting(self, results: Iterable[Finding | Request]) -> Iterable[Finding | Request]:
        """Without findings of which nobody wants to know."""
        if not self.exempt:
            return results
        return (r for r in results if isinstance(r, Request) or not is_spared(self.exempt, r.analyzer, r.sites))

    def _ordered(self) -> list[Finding]:
        return sorted(self._found.values(), key=_importance)

    def _causes(self) -> list[Finding]:
        return [finding for finding in self._ordered() if self._cause_of(finding) is finding]

    def _cause_of(self, finding: Finding) -> Finding:
        """The finding that explains this one, and is explained by none itself."""
        seen = [finding]
        while (cause := self._explanation(seen[-1])) is not None and cause not in seen:
            seen.append(cause)
        return seen[-1]

    def _explanation(self, effect: Finding) -> Finding | None:
        explaining = {analyzer.name for analyzer in self.analyzers if effect.analyzer in analyzer.explains}
        earlier = [f for f in self._ordered() if f.analyzer in explaining and _reaches(f, effect)]
        return min(earlier, key=lambda f: f.step, default=None)


def _results(analyzer: Analyzer, recording: Recording) -> Results:
    results = tuple(islice(analyzer.analyze(recording), MOST_RESULTS + 1))
    if len(results) > MOST_RESULTS:
        raise RuntimeError("it yields without end")
    return results


def _bounded(analyzer: Analyzer, recording: Recording) -> Results:
    """The results of another package's analyzer; if it does not come back, it is left behind in its thread."""
    future: Future[Results] = Future()

    def work() -> None:
        try:
            future.set_result(_results(analyzer, recording))
        except BaseException as error:  # noqa: BLE001  raised again where the result is awaited
            future.set_exception(error)

    Thread(target=work, name=f"gradscope {analyzer.name}", daemon=True).start()
    try:
        return future.result(PATIENCE)
    except TimeoutError:
        raise TimeoutError(f"no result after {PATIENCE:g} seconds") from None


def _mark(step: Step) -> Mark:
    """In what way a step is notable."""
    odd = (event for event in step.events if event.misused or event.non_finite)
    events = tuple((e.optimizer, e.parameters, e.reused, e.cleared, e.repeated, e.shared, e.non_finite) for e in odd)
    return step.end, events, pattern(step)


def _importance(finding: Finding) -> tuple[int, int]:
    return finding.severity.rank, finding.step


def _reaches(cause: Finding, effect: Finding) -> bool:
    """A cause comes no later than its effect; a note can only be explained where it names the same sites."""
    shared = effect.severity is not Severity.NOTE or bool(set(cause.sites) & set(effect.sites))
    return cause.step <= effect.step and shared
