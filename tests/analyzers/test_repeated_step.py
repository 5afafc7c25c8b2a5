from gradscope.analyzers.repeated_step import RepeatedStep
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding
from gradscope.records import Recording
from gradscope.testing import recording, step_event

BOTH = ("fc.weight", "fc.bias")


def found(made: Recording) -> list[Finding]:
    return list(RepeatedStep().analyze(made))


def test_fires_on_a_step_without_a_new_gradient() -> None:
    (finding,) = found(recording(events={3: [step_event(), step_event(repeated=BOTH)]}))
    assert (finding.step, finding.sites, finding.scope) == (3, BOTH, "2 of 2 parameters")
    assert "SGD.step() ran once more" in finding.message


def test_fires_once_for_each_optimizer_at_its_first_such_step() -> None:
    other = LoopEvent(EventKind.STEP, optimizer="Adam", parameters=2, repeated=BOTH)
    again = step_event(repeated=BOTH)
    assert [finding.step for finding in found(recording(events={1: [again], 2: [again, other]}))] == [1, 2]


def test_fires_in_the_singular() -> None:
    (finding,) = found(recording(events={0: [step_event(repeated=BOTH[:1])]}))
    assert "1 gradient was the same tensor" in finding.evidence


def test_silent_on_steps_with_gradients_of_their_own() -> None:
    assert not found(recording(events={i: [step_event(), step_event()] for i in range(5)}))


def test_silent_on_what_other_analyzers_find() -> None:
    assert not found(recording(events={0: [step_event(reused=BOTH, shared=BOTH, cleared=BOTH)]}))
