from dataclasses import replace

from gradscope.analyzers.leaked_gradient import LeakedGradient
from gradscope.events import Leaked
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.testing import recording, step_event
from gradscope.traces import Location

NAMES = ("0.weight", "0.bias")
LINE = Location("train.py", 30)


def leak(since: int, optimizer: str = "Adam") -> Leaked:
    return Leaked(location=LINE, optimizer=optimizer, parameters=2, gradients=NAMES, rival="SGD", since=since)


def found(made: Recording) -> list[Finding]:
    return list(LeakedGradient().analyze(made))


def test_fires_at_the_first_of_several_steps() -> None:
    (finding,) = found(recording(events={5: [leak(3)], 7: [leak(5)]}, steps=8))
    assert (finding.step, finding.sites, finding.location) == (3, NAMES, LINE)


def test_a_loss_of_its_own_makes_it_a_note() -> None:
    alone = [replace(leak(since), opposed=False) for since in (3, 5)]
    (finding,) = found(recording(events={5: [alone[0]], 7: [alone[1]]}, steps=8))
    assert finding.severity is Severity.NOTE
    assert "meant" in finding.fix
    assert not found(recording(events={5: [alone[0]], 7: [leak(5)]}, steps=8))


def test_fires_once_for_each_optimizer() -> None:
    events = {5: [leak(3), leak(4, "AdamW")], 7: [leak(5), leak(6, "AdamW")]}
    assert [finding.cause for finding in found(recording(events=events, steps=8))] == ["Adam of 2", "AdamW of 2"]


def test_silent_on_one_odd_step_and_on_none() -> None:
    assert not found(recording(events={5: [leak(3)]}, steps=8))
    assert not found(recording(events={5: [step_event()]}, steps=8))
