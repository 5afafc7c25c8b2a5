"""Judging again does not begin from the start: what was judged is remembered, what is healthy is not put together.

The shorter ways must lead to what all numbers together say, in full recordings with gaps, late sites, NaN and Inf.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gradscope import records
from gradscope.analyzer import Request
from gradscope.analyzers.non_differentiable_op import NonDifferentiableOp
from gradscope.analyzers.vanishing_gradient import VanishingGradient
from gradscope.findings import Finding
from gradscope.finiteness import Flags, first_bad, passed_over, poisoned
from gradscope.graphs import unmoved
from gradscope.records import UNMEASURED, Floats, Kind, ParameterInfo, Recording, Statistic, Step, StepEnd
from gradscope.selection import select
from gradscope.testing import recording, step_event
from gradscope.trends import gradient_norms

FULL = 1000
LAYERS = [f"fc{i}" for i in range(6)]
WEIGHTS = [f"{layer}.weight" for layer in LAYERS]


def healthy(steps: int = FULL) -> Recording:
    noise = np.random.default_rng(0)

    def column() -> list[float]:
        return list(map(float, noise.uniform(0.5, 1.5, steps)))

    return recording(
        steps=steps,
        activation={layer: column() for layer in LAYERS},
        activation_gradient={layer: column() for layer in LAYERS},
        parameter={weight: column() for weight in WEIGHTS},
        parameter_gradient={weight: column() for weight in WEIGHTS},
        update={weight: column() for weight in WEIGHTS},
        events={step: [step_event(parameters=6, non_finite=False)] for step in range(steps)},
        parameters=[ParameterInfo(f"{layer}.weight", layer, True, steps, steps) for layer in LAYERS],
    )


def results(made: Recording) -> list[Finding | Request]:
    return [result for analyzer in select().analyzers for result in analyzer.analyze(made)]


def put_together(made: Recording) -> set[str]:
    """The tables that were made of all steps."""
    tables = made.__dict__.keys() & {"stored", "calls"}
    return tables | {str(kind) for kind in made.__dict__.get("_tables", {})}


def odd(seed: int, steps: int = 60) -> Recording:
    """Steps of all sorts: skipped, still, not observed, with NaN, with Inf, with sites that come late."""
    made, chance = healthy(steps), np.random.default_rng(seed)
    return replace(made, steps=tuple(_odd(step, chance) for step in made.steps))


def _odd(step: Step, chance: np.random.Generator) -> Step:
    assert step.stored is not None
    stored = step.stored[: len(step.stored) - (step.index < 10) * int(chance.integers(8))].copy()
    for site in chance.choice(len(stored), chance.integers(5) if chance.random() < 0.3 else 0, replace=False):
        stored[site, 1:] = chance.choice([np.nan, np.inf])
    stored[chance.random(len(stored)) < 0.1] = UNMEASURED
    if chance.random() < 0.1:
        stored[-6:, 1:] = 0.0
    end = chance.choice([StepEnd.OPTIMIZER, StepEnd.OPTIMIZER, StepEnd.CLEARED, StepEnd.OPEN])
    return replace(step, end=StepEnd(end), stored=stored if chance.random() < 0.9 else None)


def test_healthy_recordings_are_judged_without_putting_their_steps_together() -> None:
    made = healthy()
    assert results(made) == []
    assert put_together(made) == set()


def test_steps_that_were_judged_are_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = healthy(100), list[object]()
    assert results(replace(made, steps=made.steps[:90])) == []
    for module, name in ((records, "_finite"), (records, "_part")):
        monkeypatch.setattr(module, name, _counted(getattr(module, name), asked))
    assert results(made) == []
    assert len(asked) < 80  # ten steps are new, and several analyzers look at them and a few before


def _counted(function: Callable[..., object], calls: list[object]) -> Callable[..., object]:
    def counted(*given: object) -> object:
        calls.append(given)
        return function(*given)

    return counted


def test_a_measure_of_each_step_is_remembered_until_there_are_other_sites() -> None:
    asked = list[int]()

    def measure(stored: Floats) -> float:
        asked.append(len(stored))
        return float(stored[:, 0].sum())

    made = healthy(5)
    for each in (made, replace(made, complete=True)):
        assert (
            each.each(Kind.UPDATE, measure).tolist() == each.values(Kind.UPDATE, Statistic.COUNT).sum(axis=1).tolist()
        )
    assert asked == [6] * 5
    other = replace(made, sites=made.sites[:-1])
    assert other.each(Kind.UPDATE, measure).tolist() == [80.0] * 5


@pytest.mark.parametrize("seed", range(20))
def test_one_row_is_a_row_of_all(seed: int) -> None:
    made = odd(seed)
    for kind in Kind:
        for statistic in Statistic:
            rows = [made.at(row, kind, statistic) for row in range(len(made.observed))]
            np.testing.assert_array_equal(np.array(rows), made.values(kind, statistic))
    assert made.stored.shape == (len(made.observed), len(made.sites), 5)


@pytest.mark.parametrize("seed", range(20))
def test_the_gradient_norms_are_those_of_all_numbers(seed: int) -> None:
    made = odd(seed)
    squares = made.values(Kind.PARAMETER_GRADIENT, Statistic.SQUARES)
    measured = made.values(Kind.PARAMETER_GRADIENT, Statistic.COUNT) > 0
    total = np.where(measured, squares, 0.0).sum(axis=1)
    used = [step.end is not StepEnd.CLEARED for step in made.observed]
    expected = np.where(used & (total != 0), np.sqrt(np.where(np.isnan(total), np.inf, total)), np.nan)
    np.testing.assert_allclose(gradient_norms(made), expected, rtol=1e-14)


def rows_with_bad(made: Recording) -> tuple[list[int], list[int]]:
    """What no step may hold, and what was passed over, told from all numbers at once."""

    def there(kind: Kind, *statistics: Statistic) -> Flags:
        return np.asarray(np.any([made.values(kind, each) == 1 for each in statistics], axis=(0, 2)))

    both = Statistic.NAN, Statistic.INF
    outputs = there(Kind.ACTIVATION, Statistic.NAN)
    gradients = there(Kind.ACTIVATION_GRADIENT, *both) | there(Kind.PARAMETER_GRADIENT, *both)
    weights = there(Kind.UPDATE, *both) | there(Kind.PARAMETER, *both)
    updates = made.values(Kind.UPDATE, Statistic.ABS_MAX)
    still = np.nan_to_num(np.fmax.reduce(updates, axis=1), nan=1.0) == 0
    cleared, opened = (np.array([s.end is end for s in made.observed]) for end in (StepEnd.CLEARED, StepEnd.OPEN))
    skipped = cleared | still | (opened & bool((gradients & (cleared | still)).any()))
    harmless = (made.values(Kind.UPDATE, Statistic.COUNT) > 0).any(axis=1) & ~gradients & ~weights
    bad = (outputs & ~harmless) | weights | (gradients & ~skipped)
    return np.flatnonzero(bad).tolist(), np.flatnonzero(outputs & harmless).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_finite_is_found_as_among_all_numbers(seed: int) -> None:
    made = odd(seed)
    bad, quiet = rows_with_bad(made)
    assert first_bad(made) == min(bad, default=None)
    assert passed_over(made) == min(quiet, default=None)
    weights = made.values(Kind.PARAMETER, Statistic.NAN) + made.values(Kind.PARAMETER, Statistic.INF)
    assert poisoned(made) == bool((weights >= 1).any())


def fading(begin: int) -> Recording:
    return recording(
        steps=FULL,
        activation_gradient={
            layer: [16.0 ** (i - 6) if step >= begin else 1.0 for step in range(FULL)] for i, layer in enumerate(LAYERS)
        },
    )


@pytest.mark.parametrize("begin", [0, 1, 600, FULL - 3])
def test_a_slope_begins_where_it_began_however_long_ago(begin: int) -> None:
    (found,) = VanishingGradient().analyze(fading(begin))
    assert isinstance(found, Finding)
    assert found.step == begin


def test_a_slope_that_is_too_young_or_over_is_silent() -> None:
    assert not list(VanishingGradient().analyze(fading(FULL - 2)))
    assert not list(VanishingGradient().analyze(replace(fading(0), steps=(*fading(0).steps, *fading(FULL).steps[-1:]))))


@pytest.mark.parametrize(("first", "last"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (None, 0.0), (0.0, None)])
def test_one_gradient_above_zero_is_enough_however_long_ago(first: float | None, last: float | None) -> None:
    made = recording(
        steps=FULL,
        parameter_gradient={"a.weight": [first, *([0.0] * (FULL - 2)), last], "b.weight": 1.0},
        parameters=[ParameterInfo(f"{name}.weight", name, True, FULL, FULL) for name in "ab"],
    )
    assert [each.path for each in unmoved(made)] == ["a.weight"] * (1.0 not in (first, last))
    assert bool(list(NonDifferentiableOp().analyze(made))) == (1.0 not in (first, last))
