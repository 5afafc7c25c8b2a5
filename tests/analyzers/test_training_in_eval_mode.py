from gradscope.analyzers.training_in_eval_mode import TrainingInEvalMode
from gradscope.events import LoopEvent
from gradscope.findings import Finding
from gradscope.testing import recording, step_event

QUIET, LOUD = step_event(evaluating=("drop", "norm")), step_event()


def found(*events: LoopEvent, **options: int) -> list[Finding]:
    made = recording(steps=len(events), events={i: [event] for i, event in enumerate(events)})
    return list(TrainingInEvalMode(**options).analyze(made))


def test_fires_on_three_steps_in_a_row_and_names_the_first() -> None:
    (finding,) = found(LOUD, QUIET, QUIET, QUIET, QUIET)
    assert (finding.step, finding.sites) == (1, ("drop", "norm"))
    assert "'drop', 'norm' are not what they are" in finding.message
    assert "(limit 3)" in finding.evidence


def test_fires_with_a_limit_of_ones_own() -> None:
    assert found(QUIET, steps=1)


def test_fires_across_steps_in_which_no_optimizer_stepped() -> None:
    made = recording(steps=4, events={0: [QUIET], 2: [QUIET], 3: [QUIET]})
    assert [finding.step for finding in TrainingInEvalMode().analyze(made)] == [0]


def test_silent_on_a_step_or_two_in_evaluation_mode() -> None:
    assert not found(QUIET, QUIET)


def test_silent_when_the_modes_alternate() -> None:
    assert not found(QUIET, QUIET, LOUD, QUIET, QUIET, LOUD)


def test_silent_in_training_mode() -> None:
    assert not found(LOUD, LOUD, LOUD, LOUD)
