from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf, nan

import pytest

from gradscope.analyzers.exploding_gradient import ExplodingGradient
from gradscope.findings import Finding, Severity
from gradscope.records import Recording, StepEnd
from gradscope.testing import recording, step_event
from gradscope.traces import Location, Operand, Operation, Range


def found(made: Recording) -> list[Finding]:
    return list(ExplodingGradient().analyze(made))


def over_time(*norms: float | None, **options: object) -> Recording:
    return recording(steps=len(norms), parameter_gradient={"fc.weight": norms}, **options)  # type: ignore[arg-type]


def test_fires_over_depth() -> None:
    layers = {f"fc{i}": 8.0 ** (7 - i) for i in range(8)}
    (finding,) = found(recording(activation_gradient=layers))
    assert "grows 2e+06-fold on its way back from 'fc7' to 'fc0'" in finding.message
    assert (finding.severity, finding.step) == (Severity.WARNING, 0)
    assert finding.sites == ("fc0", "fc1", "fc2")


def recurrence(gradients: Sequence[float | None], *, chained: bool = True, path: str = "cell.weight") -> Recording:
    """One weight that is used so many times, with the largest element of each result's gradient."""
    weight = Operand((4, 4), None, path, has_graph=True)
    trace = []
    for index, size in enumerate(gradients):
        before = [Operand((5, 4), index - 1, "", has_graph=True)] if index and chained else []
        received = None if size is None else Range(-size, 0.5 * size)
        place = Location("net.py", 7)
        trace.append(Operation(index, "linear", "cell", place, 2, (weight, *before), has_graph=True, gradient=received))
    return recording(operations=trace)


GROWING = [3.0 ** (12 - index) for index in range(13)]


def test_fires_on_growth_through_the_uses_of_one_weight() -> None:
    (finding,) = found(recurrence(GROWING))
    assert (finding.severity, finding.step, finding.sites) == (Severity.WARNING, 2, ("cell.weight",))
    assert "grows 5e+05-fold on its way back through 13 uses of 'cell.weight'" in finding.message
    assert str(finding.location) == "net.py:7"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a module that is shared and not repeated", recurrence(GROWING, chained=False)),
        ("less growth", recurrence(GROWING[4:])),
        ("few uses", recurrence([1e4 ** (6 - index) for index in range(7)])),
        ("gradients that shrink", recurrence(GROWING[::-1])),
        ("one jump", recurrence([1e5] * 6 + [1.0] * 6)),
        ("a sequence whose last states alone count", recurrence([*GROWING[:-1], 0.0])),
        ("overflow, which is a finding of its own", recurrence([inf, *GROWING])),
        ("no gradient", recurrence([None] * 13)),
        ("no weight", recurrence(GROWING, path="")),
    ],
)
def test_silent_on_other_uses_of_one_weight(name: str, made: Recording) -> None:
    assert not found(made)


def test_fires_as_an_error_on_growth_that_ends_in_nan() -> None:
    (finding,) = found(over_time(1.0, 1.0, 1.1, 500.0, 1e5, 1e8, nan, nan))
    assert (finding.severity, finding.step) == (Severity.ERROR, 3)
    assert "not finite in step 6" in finding.evidence


def test_fires_on_growth_that_ends_in_a_step_that_was_not_observed() -> None:
    made = over_time(1.0, 1.0, 1e3, 1e7, 1e9, events={4: [step_event(non_finite=True)]})
    unseen = replace(made, steps=(*made.steps[:4], replace(made.steps[4], stored=None)))
    assert found(unseen)[0].severity is Severity.ERROR
    assert not found(replace(made, steps=made.steps[:4]))


def test_fires_on_a_steady_growth_that_kills_the_network_without_nan() -> None:
    (finding,) = found(over_time(2.6, 80, 9e3, 1e6, 6e8, 6e12, 0.7, 0.7, 0.9))
    assert (finding.severity, finding.step) == (Severity.WARNING, 2)
    assert "from step 0 to step 3" in finding.message
    assert "NaN" not in finding.message


def test_fires_on_growth_into_nan_from_below_the_first_steps() -> None:
    assert found(over_time(50.0, 40.0, *[1e-4] * 12, 1e-2, 1.0, 10.0, nan))[0].severity is Severity.ERROR


def test_fires_with_the_size_of_the_update_where_it_was_measured() -> None:
    norms = (1.0, 1.0, 500.0, 1e5, nan)
    made = over_time(*norms, parameter={"fc.weight": 2.0}, update={"fc.weight": 1.0})
    assert "50.0% of the weights" in found(made)[0].why
    assert "%" not in found(over_time(*norms))[0].why


def test_fires_on_a_norm_that_rises_and_stays() -> None:
    (finding,) = found(over_time(1, 2, 1, 1, 1, 1, 300, 400, 500))
    assert (finding.severity, finding.step) == (Severity.WARNING, 6)
    assert "300 times" in finding.message


def test_fires_late_in_a_run_against_the_first_half_that_is_left() -> None:
    made = over_time(*[1.0] * 8, *[2.0] * 5, 300, 400, 500)
    late = replace(made, steps=tuple(replace(step, index=step.index + 5000) for step in made.steps))
    assert found(late)[0].step == 5013


def test_fires_as_a_warning_when_the_growth_was_long_before_the_nan() -> None:
    (finding,) = found(over_time(*[1.0] * 12, *[1e5] * 11, nan))
    assert (finding.severity, finding.step) == (Severity.WARNING, 12)


def test_silent_late_in_a_run_when_gradients_were_as_large_before() -> None:
    made = over_time(*[1e-4] * 5, 1.0, *[1e-4] * 8, 1.0, 1.0, 1.0)
    late = replace(made, steps=tuple(replace(step, index=step.index + 5000) for step in made.steps))
    assert found(made)
    assert not found(late)


@pytest.mark.parametrize(
    "norms",
    [
        pytest.param((1, 1, 1, 1, 1, 1, 1e4, 1, 1, 1), id="a spike"),
        pytest.param((1, 1, 1, 1, 1, 1, 1e4, 1e4, 1), id="two hard batches"),
        pytest.param((0.3, 0.3, 0.2, 0.1, 0.1, *[1e-4] * 20, 5, 6, 5, 6), id="a converged model and wrong labels"),
        pytest.param((10, 9, 8, 8, 9, *[0.01] * 20, 20, 20, 20), id="a warm restart"),
        pytest.param((1e-3, 1, 5, 5, 5, 5, 5, 5, 5), id="a first step with zero-initialised branches"),
        pytest.param((1, 1e3, 1, 1e3, 1, 1e3, 1, 1e3, 1, 1e3), id="two networks that take turns"),
        pytest.param((1, 1, 1, 1, nan, nan), id="a NaN out of the blue"),
        pytest.param((1e-9, 1, 1, 1.2, 1.1, nan), id="an odd first batch and a NaN"),
        pytest.param((1, 1, 1, 1, 1, 1, 20, 20, 20), id="a rise of twenty times"),
        pytest.param((0, 0, 0, 0, 0, 0, 1, 1, 1, 1), id="zero losses"),
        pytest.param((1e-6, 1, 1.1, 1.2, 1.3, 1.4), id="an odd first batch and a slow rise"),
        pytest.param((1, 1, 1, 1, 200, 4e4, 1, 1), id="a spike that rises in two steps"),
        pytest.param((1e-5, 1, 1, 3.2, 10, 32, 40, 1), id="an odd first batch and a mild rise"),
        pytest.param((1, 50, 5, 500, 50, 5e3, 500, 5e4, 0.5), id="two networks that take turns and grow"),
        pytest.param([1.4**step for step in range(20)] + [800] * 5, id="a slow rise"),
        pytest.param((1, 1, 1, 1, *[5.0**step for step in range(-9, 2)], 1, 1), id="an instability that calms down"),
        pytest.param((nan,), id="NaN at once"),
        pytest.param((None, None), id="nothing measured"),
    ],
)
def test_silent_over_time_on(norms: Iterable[float | None]) -> None:
    assert not found(over_time(*norms))


def test_silent_on_overflows_that_a_scaler_skips() -> None:
    norms = (1.0, 1.0, 200.0, 1e5, inf, 1.0, 1.0)
    assert not found(over_time(*norms, ends={4: StepEnd.CLEARED}))
    assert found(over_time(*norms))


def test_silent_on_one_jump_over_depth_and_on_rms_alone() -> None:
    jump = {f"fc{i}": 1e6 for i in range(4)} | {f"aux{i}": 1.0 for i in range(4)}
    assert not found(recording(activation_gradient=jump))
    layers = {f"fc{i}": 8.0 ** (7 - i) for i in range(8)}
    vocabulary = {name: int(8e7 / rms**2) for name, rms in layers.items()}
    assert not found(recording(activation_gradient=layers, count=vocabulary))


def test_thresholds_are_fields() -> None:
    made = over_time(1, 1, 1, 1, 1, 1, 40, 40, 40)
    assert list(ExplodingGradient(level=20.0).analyze(made))
    assert not list(ExplodingGradient(level=20.0, steps=4).analyze(made))
    slow = over_time(*[2.0**step for step in range(20)])
    assert not list(ExplodingGradient(level=1e9).analyze(slow))
    assert list(ExplodingGradient(level=1e9, window=15).analyze(slow))
