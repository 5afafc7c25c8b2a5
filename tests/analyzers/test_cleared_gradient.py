from gradscope.analyzers.cleared_gradient import ClearedGradient
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding
from gradscope.records import Recording, StepEnd
from gradscope.testing import recording, step_event

NAMES = ("fc.weight", "fc.bias")


def found(made: Recording) -> list[Finding]:
    return list(ClearedGradient().analyze(made))


def test_fires_once_when_every_step_finds_its_gradients_cleared() -> None:
    (finding,) = found(recording(events={step: [step_event(cleared=NAMES)] for step in range(5)}))
    assert (finding.step, finding.sites) == (0, NAMES)
    assert finding.evidence.startswith("2 of 2 parameters")


def test_fires_on_the_sick_one_of_two_optimizers() -> None:
    sound = LoopEvent(EventKind.STEP, optimizer="SGD", parameters=7)
    (finding,) = found(recording(events={0: [sound, step_event(cleared=NAMES)], 1: [sound]}))
    assert finding.scope == "2 of 2 parameters"


def test_fires_from_the_share_on() -> None:
    half = recording(events={0: [step_event(parameters=4, cleared=NAMES)]})
    assert found(half)
    assert not list(ClearedGradient(share=0.6).analyze(half))


def test_silent_when_a_few_gradients_are_cleared_to_freeze_parameters() -> None:
    assert not found(recording(events={step: [step_event(parameters=20, cleared=NAMES)] for step in range(5)}))


def test_silent_when_one_bad_batch_is_dropped() -> None:
    events = {step: [step_event(cleared=NAMES if step == 3 else ())] for step in range(5)}
    assert not found(recording(events=events))


def test_silent_when_a_scaler_skips_the_step() -> None:
    skipped = {0: [LoopEvent(EventKind.BACKWARD)]}
    assert not found(recording(events=skipped, ends={0: StepEnd.CLEARED}))
