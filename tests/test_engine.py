"""The engine: when analyzers run, what is new, and one finding for one cause. Analyzers and recordings made by hand."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import ClassVar

import pytest

from gradscope.analyzer import Analyzer, Request
from gradscope.engine import AGAIN, FIRST, PERIOD, SHARE, Engine
from gradscope.findings import Finding, Severity
from gradscope.records import Kind, Recording, Step
from gradscope.testing import recording, step_event
from gradscope.traces import Location


@dataclass(frozen=True)
class Scripted(Analyzer):
    """Yields what it is told, and notes how often it was asked."""

    severity: ClassVar[Severity] = Severity.ERROR
    results: tuple[Finding | Request, ...] = ()
    asked: list[int] = field(default_factory=list)

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        self.asked.append(len(recording.steps))
        yield from self.results


class Cause(Scripted):
    explains: ClassVar[frozenset[str]] = frozenset({"effect"})


class Effect(Scripted):
    explains: ClassVar[frozenset[str]] = frozenset({"last"})


class Last(Scripted):
    pass


class Revocable(Scripted):
    revocable: ClassVar[bool] = True


class Exact(Scripted):
    every_step: ClassVar[bool] = True


class Needing(Scripted):
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.UPDATE})


def found(analyzer: str, step: int, severity: Severity = Severity.ERROR, cause: str = "", *sites: str) -> Finding:
    return Finding(analyzer, severity, step, "message", "evidence", "fix", cause=cause, sites=sites)


def judged(*analyzers: Analyzer) -> Engine:
    engine = Engine(analyzers)
    engine.run(recording(complete=True), 0.0)
    return engine


def test_a_finding_is_new_once() -> None:
    engine = Engine((Last((found("last", 3), found("last", 4, cause="other"))),))
    assert [finding.step for finding in engine.run(recording(), 0.0)[0]] == [3, 4]
    assert engine.run(recording(), 100.0)[0] == ()
    assert len(engine.findings()) == 2


def test_requests_are_passed_on() -> None:
    assert Engine((Last((Request("why"),)),)).run(recording(), 0.0) == ((), (Request("why"),))


def test_an_effect_is_folded_into_its_cause() -> None:
    engine = judged(Effect((found("effect", 5),)), Cause((found("cause", 2, Severity.WARNING),)))
    (finding,) = engine.findings()
    assert (finding.analyzer, finding.step, finding.severity) == ("cause", 2, Severity.ERROR)
    assert finding.consequences == ("effect at step 5: message",)


def test_a_chain_ends_at_its_first_cause() -> None:
    engine = judged(Last((found("last", 9),)), Effect((found("effect", 5),)), Cause((found("cause", 2),)))
    (finding,) = engine.findings()
    assert finding.analyzer == "cause"
    assert len(finding.consequences) == 2


def test_an_effect_that_came_before_is_a_cause_of_its_own() -> None:
    engine = judged(Effect((found("effect", 1),)), Cause((found("cause", 2),)))
    assert [finding.analyzer for finding in engine.findings()] == ["effect", "cause"]


@pytest.mark.parametrize(("site", "folded"), [("a", True), ("b", False)])
def test_a_note_is_folded_only_where_it_names_the_same_sites(site: str, folded: bool) -> None:
    note = found("effect", 5, Severity.NOTE, "", site)
    engine = judged(Effect((note,)), Cause((found("cause", 2, Severity.ERROR, "", "a"),)))
    assert (len(engine.findings()) == 1) is folded


def test_a_revocable_finding_that_is_not_found_again_is_taken_back() -> None:
    firm, soft = Scripted(results=(found("scripted", 0),)), Revocable(results=(found("revocable", 0),))
    engine = judged(firm, soft)
    assert [finding.analyzer for finding in engine.findings()] == ["scripted", "revocable"]
    engine.analyzers = (Scripted(), Revocable())
    engine.run(recording(complete=True), 1.0)
    assert [finding.analyzer for finding in engine.findings()] == ["scripted"]


def test_a_line_that_becomes_known_later_is_added() -> None:
    engine = judged(Scripted(results=(found("scripted", 0),)))
    located = replace(found("scripted", 0), location=Location("net.py", 3))
    engine.analyzers = (Scripted(results=(located,)),)
    new, _ = engine.run(recording(complete=True), 1.0)
    assert new == ()
    assert engine.findings() == (located,)


def test_findings_are_sorted_by_severity_then_step() -> None:
    results = (found("last", 7), found("last", 1, Severity.NOTE, "a"), found("last", 2, Severity.ERROR, "b"))
    assert [finding.step for finding in judged(Last(results)).findings()] == [2, 7, 1]


def test_an_effect_is_not_told_as_news() -> None:
    engine = Engine((Cause((found("cause", 2),)), Effect((found("effect", 5),))))
    assert [finding.analyzer for finding in engine.run(recording(), 0.0)[0]] == ["cause"]


def test_an_analyzer_that_fails_is_named_and_not_asked_again() -> None:
    class Failing(Scripted):
        def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
            self.asked.append(0)
            raise ZeroDivisionError("mine")

    failing, good = Failing(), Last((found("last", 0),))
    engine = judged(failing, good)
    engine.run(recording(complete=True), 9.0)
    assert engine.unjudged(recording()) == ("failing failed: ZeroDivisionError('mine')",)
    assert len(failing.asked) == 1
    assert len(engine.findings()) == 1


def test_an_analyzer_that_yields_without_end_is_cut_off() -> None:
    class Endless(Scripted):
        def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
            while True:
                yield Request("again")

    engine = judged(Endless())
    assert engine.unjudged(recording()) == ("endless failed: RuntimeError('it yields without end')",)


def test_an_analyzer_that_does_not_come_back_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Looping(Scripted):
        def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
            released.wait()
            yield from ()

    monkeypatch.setattr("gradscope.engine.PATIENCE", 0.01)
    engine = judged(Looping(), Last((found("last", 0),)))
    released.set()
    assert engine.unjudged(recording()) == ("looping failed: TimeoutError('no result after 0.01 seconds')",)
    assert len(engine.findings()) == 1


def test_an_analyzer_that_lacks_what_it_needs_is_named() -> None:
    engine = judged(Needing())
    assert engine.unjudged(recording(activation={"a": 1.0})) == ("needing did not run: no update was recorded",)
    assert engine.unjudged(recording(update={"a.w": 1.0})) == ()
    assert engine.unjudged(Recording()) == ()


def late(*events: object) -> list[Step]:
    return [Step(FIRST + 5, events=tuple(events))]  # type: ignore[arg-type]


def test_after_the_first_steps_only_time_or_a_notable_step_is_a_reason_to_run() -> None:
    engine = Engine(())
    engine.run(Recording(), 10.0)
    assert engine.due([Step(FIRST - 1)], 10.1)
    assert not engine.due(late(), 10.1)
    assert engine.due(late(), 10.0 + PERIOD)
    assert engine.due(late(step_event(reused=("a",))), 10.1)
    assert engine.due(late(step_event(non_finite=True)), 10.1)
    assert not engine.due(late(step_event(non_finite=False)), 10.1)


def test_between_the_batches_only_exact_analyzers_run() -> None:
    exact, other = Exact(), Last()
    engine = Engine((exact, other))
    for now in (0.0, 0.1, PERIOD):
        engine.run(Recording(steps=tuple(late())), now)
    assert (len(exact.asked), len(other.asked)) == (3, 2)


def runs(engine: Engine, steps: int, *, begin: int = 0) -> list[int]:
    """The steps after which there was reason to run, in a loop that takes no time."""
    found = []
    for index in range(begin, begin + steps):
        if engine.due([Step(index)], 0.0):
            engine.run(Recording(steps=(Step(index),)), 0.0)
            found.append(index)
    return found


def test_after_the_first_steps_the_runs_become_rare() -> None:
    assert runs(Engine(()), 100) == [0, 1, 2, 4, 8, 16]


def test_a_step_that_arrives_with_later_ones_is_not_passed_over() -> None:
    engine = Engine((last := Last(),))
    assert runs(engine, 3) == [0, 1, 2]
    steps = tuple(Step(index) for index in (3, 4, 5))
    assert engine.due(steps, 0.0)
    engine.run(Recording(steps=steps), 0.0)
    assert len(last.asked) == 4
    assert runs(engine, 20, begin=6) == [10]


@pytest.mark.parametrize(("begin", "expected"), [(0, [0, 1, 2, 4, 8, 16]), (5, [5, 9, 18]), (100, [100, 104])])
def test_a_closer_look_is_looked_at_soon_and_once(begin: int, expected: list[int]) -> None:
    engine = Engine((Last((Request("why"),)),))
    assert runs(engine, 50, begin=begin) == expected
    assert AGAIN == 4


def test_dear_runs_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    monkeypatch.setattr("gradscope.engine.perf_counter", lambda: next(seconds) * 0.01)
    engine = Engine((last := Last(),))
    times = [now / 10 for now in range(1000) if engine.due(late(), now / 10) and engine.run(Recording(), now / 10)]
    assert times == pytest.approx([0.0, PERIOD, *(PERIOD + 0.01 / SHARE * i for i in range(1, 20))], abs=0.3)
    assert len(last.asked) == len(times)
    assert engine.run(Recording(complete=True), times[-1])
    assert len(last.asked) == len(times) + 1


def test_one_dear_run_makes_no_difference_and_a_dear_recording_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscope.engine.perf_counter", lambda: 0.0)
    engine = Engine(())
    for now, took in ((0.0, 0.0), (1.0, 0.5), (3.0, 0.0), (4.0, 0.1), (6.0, 0.1)):
        assert engine.due(late(), now)
        engine.run(Recording(), now + took)
    assert not engine.due(late(), 6.0 + 0.1 / SHARE)
    assert engine.due(late(), 6.2 + 0.1 / SHARE)


def test_a_step_that_is_notable_as_before_is_no_news() -> None:
    engine = Engine(())
    engine.run(Recording(), 0.0)
    reused, other = step_event(reused=("a",)), step_event(reused=("b",))
    assert [engine.due(late(event), 0.1) for event in (reused, reused, other, reused)] == [True, False, True, False]


def test_other_sites_that_are_not_finite_are_news() -> None:
    engine = Engine(())
    engine.run(Recording(), 0.0)
    made = recording(activation={"a": [1.0, float("nan"), float("nan"), float("inf"), 1.0]}, parameter={"a.w": 1.0})
    steps = [replace(step, index=FIRST + step.index) for step in made.steps]
    assert [engine.due([step], 0.1) for step in steps] == [False, True, False, True, False]
