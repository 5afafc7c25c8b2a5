import pytest

from gradscope.analyzers.misplaced_clipping import MisplacedClipping
from gradscope.events import Change, Changed, Clipped, EventKind, LoopEvent, Unscaled
from gradscope.findings import Finding
from gradscope.records import ParameterInfo, Recording
from gradscope.testing import recording, step_event
from gradscope.traces import Location

NAMES = ("fc.weight", "fc.bias")
LINE = Location("train.py", 12)
BACKWARD = LoopEvent(EventKind.BACKWARD)


def clip(*names: str, limit: float | None = 1.0) -> LoopEvent:
    return Clipped(location=LINE, gradients=names, limit=limit)


def unscale(*names: str, scale: float = 65536.0) -> LoopEvent:
    return Unscaled(gradients=names, scale=scale)


def late(*changes: Change) -> LoopEvent:
    return Changed(changes=changes)


def run(*events: LoopEvent, first: int = 0) -> Recording:
    happened = {first: [BACKWARD, *events, step_event(location=Location("train.py", 20))]}
    return recording(events=happened, parameters=[ParameterInfo(name, "fc") for name in NAMES])


def found(made: Recording) -> list[Finding]:
    return list(MisplacedClipping().analyze(made))


def test_fires_on_clipping_before_unscaling() -> None:
    (finding,) = found(run(clip(*NAMES), unscale(*NAMES)))
    assert (finding.step, finding.sites, finding.location) == (0, NAMES, LINE)
    assert "1.5e-05" in finding.why


def test_silent_on_clipping_after_unscaling_and_without_a_scaler() -> None:
    assert not found(run(unscale(*NAMES), clip(*NAMES)))
    assert not found(run(unscale(*NAMES), clip(*NAMES), unscale(*NAMES)))
    assert not found(run(clip(*NAMES)))
    assert not found(run(unscale(*NAMES, scale=1.0), unscale(*NAMES), clip(*NAMES)))


def test_silent_where_another_models_gradients_are_unscaled() -> None:
    assert not found(run(clip("fc.weight"), unscale("fc.bias")))


def test_silent_on_a_scale_that_is_not_known() -> None:
    assert not found(run(clip(*NAMES), Unscaled(gradients=NAMES)))


@pytest.mark.parametrize("limit", [65536.0, 1000.0, float("inf"), None])
def test_silent_on_a_limit_that_was_scaled_or_is_not_known(limit: float | None) -> None:
    assert not found(run(clip(*NAMES, limit=limit), unscale(*NAMES)))


def test_silent_on_a_scale_that_hardly_scales() -> None:
    assert not found(run(clip(*NAMES), unscale(*NAMES, scale=1.0)))


def test_fires_on_an_iterator_that_was_used_up() -> None:
    (finding,) = found(run(clip()))
    assert (finding.location, finding.sites) == (LINE, NAMES)


def test_fires_on_it_also_where_the_last_step_s_gradients_were_changed() -> None:
    (finding,) = found(run(late(Change("fc.weight", 1.0, 1.0, 1.0, 1.0)), clip()))
    assert finding.cause == "nothing"


def test_fires_once_for_each_kind() -> None:
    changes = (Change("fc.weight", 4.0, 2.0, 0.8, 0.4), Change("fc.bias", 3.0, 2.0, 0.6, 0.4))
    findings = found(run(late(*changes), clip(*NAMES), unscale(*NAMES), first=1))
    assert [finding.cause for finding in findings] == ["scaled", "late"]


def test_silent_on_a_module_without_parameters_among_others() -> None:
    assert not found(run(clip(), clip(*NAMES), clip()))


def steps(*events: LoopEvent) -> Recording:
    return recording(events={0: [*events, step_event()]}, parameters=[ParameterInfo(name, "fc") for name in NAMES])


def test_fires_on_clipping_before_the_backward() -> None:
    (finding,) = found(steps(clip("fc.bias"), clip(*NAMES), BACKWARD, BACKWARD))
    assert (finding.step, finding.sites, finding.location) == (0, ("fc.bias", "fc.weight"), LINE)
    (finding,) = found(steps(clip(*NAMES), BACKWARD, unscale(*NAMES)))
    assert finding.cause == "early"


def test_fires_on_a_used_up_iterator_before_the_backward_only_once() -> None:
    (finding,) = found(steps(clip(), BACKWARD))
    assert finding.cause == "nothing"


def test_silent_where_something_is_clipped_after_the_backward_too() -> None:
    assert not found(steps(clip(*NAMES), BACKWARD, clip(*NAMES)))
    assert not found(steps(BACKWARD, clip(*NAMES), BACKWARD))
    assert not found(steps(clip(*NAMES)))


def test_silent_on_what_the_last_step_had_used() -> None:
    """It is judged by what became of the gradients."""
    assert not found(steps(clip(*NAMES), late(Change("fc.weight", 1.0, 1.0, 1.0, 1.0)), BACKWARD))


def test_fires_on_a_norm_clipped_after_the_step_and_names_the_step() -> None:
    changes = (Change("fc.weight", 4.0, 2.0, 0.8, 0.4), Change("fc.bias", 3.0, 2.0, 0.6, 0.4))
    made = recording(events={0: [BACKWARD, step_event(location=LINE)], 1: [late(*changes)], 2: [late(*changes)]})
    (finding,) = found(made)
    assert (finding.step, finding.location, finding.sites) == (0, LINE, NAMES)
    assert "norm of 5 in the step" in finding.evidence
    assert "multiplied by 0.2, to a norm of 1" in finding.evidence


def test_fires_on_values_clipped_after_the_step() -> None:
    changes = (Change("a", 4.0, 2.0, 1.0, 0.5), Change("b", 0.3, 0.2, 0.3, 0.2), Change("c", 2.0, 0.7, 1.8, 0.5))
    (finding,) = found(run(late(*changes), first=1))
    assert "cut at 0.5" in finding.evidence


@pytest.mark.parametrize(
    "changes",
    [
        (Change("a", 1.0, 1.0, 1.0, 1.0), Change("b", 2.0, 1.0, 2.0, 1.0)),  # a coefficient of 1
        (Change("a", 1.0, 1.0, 0.0, 0.0), Change("b", 2.0, 1.0, 0.0, 0.0)),  # zeroed in place
        (Change("a", 1.0, 1.0, 3.0, 3.0), Change("b", 2.0, 1.0, 6.0, 3.0)),  # made larger
        (Change("a", 4.0, 1.0, 1.0, 0.2), Change("b", 2.0, 1.0, 1.0, 0.9)),  # each normalised by itself
        (Change("a", 4.0, 2.0, 1.0, 0.5), Change("b", 0.3, 0.3, 0.15, 0.15)),  # cut, and halved
        (Change("a", 4.0, 1.0, 1.0, 0.2),),  # one alone proves nothing
        (Change("a", 4.0, 2.0, 1.0, 0.5), Change("b", 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_silent_on_gradients_that_were_changed_in_another_way(changes: tuple[Change, ...]) -> None:
    assert not found(run(late(*changes), first=1))
