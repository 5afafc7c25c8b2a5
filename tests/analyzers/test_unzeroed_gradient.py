from gradscope.analyzers.unzeroed_gradient import UnzeroedGradient
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding
from gradscope.records import Recording
from gradscope.testing import recording, step_event
from gradscope.traces import Location, Operation

NAMES = ("fc.weight", "fc.bias")


def found(made: Recording) -> list[Finding]:
    return list(UnzeroedGradient().analyze(made))


def test_fires_once_at_the_first_step_that_reuses() -> None:
    again = [step_event(reused=NAMES, location=Location("train.py", 41))]
    (finding,) = found(recording(events={0: [step_event()], 1: again, 2: again}))
    assert (finding.step, finding.sites, finding.scope) == (1, NAMES, "2 of 2 parameters")
    assert str(finding.location) == "train.py:41"
    assert "2 gradients were" in finding.evidence


def test_fires_once_for_each_optimizer() -> None:
    other = LoopEvent(EventKind.STEP, optimizer="Adam", parameters=5, reused=("generator.weight",))
    findings = found(recording(events={1: [step_event(reused=NAMES), other], 2: [other]}))
    assert [finding.scope for finding in findings] == ["2 of 2 parameters", "1 of 5 parameters"]
    assert len({finding.cause for finding in findings}) == 2


def test_fires_on_an_update_by_hand_and_does_not_speak_of_an_optimizer() -> None:
    event = LoopEvent(EventKind.STEP, parameters=2, reused=NAMES)
    (finding,) = found(recording(events={1: [event]}))
    assert "the update of the weights" in finding.message
    assert "optimizer" not in finding.fix


def test_an_update_by_hand_is_told_with_the_line_that_writes() -> None:
    """It is noticed when the next forward begins, which says nothing of where it was."""
    event = LoopEvent(EventKind.STEP, parameters=2, reused=NAMES, location=Location("train.py", 16))
    lines = (18, "other.weight"), (20, "fc.weight"), (21, "fc.bias"), (16, "")
    trace = [
        Operation(index, "sub_", location=Location("train.py", line), written=path)
        for index, (line, path) in enumerate(lines)
    ]
    (finding,) = found(recording(events={1: [event]}, operations=trace))
    assert str(finding.location) == "train.py:21"
    (finding,) = found(recording(events={1: [event]}))
    assert finding.location is None


def test_silent_on_deliberate_accumulation() -> None:
    backward = LoopEvent(EventKind.BACKWARD)
    assert not found(recording(events={0: [backward] * 4 + [step_event()], 1: [backward] * 4 + [step_event()]}))


def test_silent_without_any_event() -> None:
    assert not found(recording())
