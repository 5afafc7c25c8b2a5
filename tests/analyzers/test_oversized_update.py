import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gradscope.analyzer import Request
from gradscope.analyzers.oversized_update import OversizedUpdate
from gradscope.findings import Finding
from gradscope.records import Recording
from gradscope.testing import recording, step_event
from gradscope.traces import Location

NAN = float("nan")
HIGH = {0: 1.0, 18: 9.0, 20: 9.0, 22: 9.0}
LINE = Location("train.py", 41)


def trained(ratios: Sequence[float], norms: Sequence[float], losses: dict[int, float] | None = None) -> Recording:
    """Weights of one size, with updates and gradients of these sizes, and losses that were traced."""
    made = recording(
        steps=len(ratios),
        parameter={"fc.weight": 1.0},
        update={"fc.weight": list(ratios)},
        parameter_gradient={"fc.weight": list(norms)},
        events={step: [step_event(rate=10.0, location=LINE)] for step in range(len(ratios))},
    )
    return replace(made, losses=losses or {})


def found(made: Recording) -> list[Finding]:
    return [each for each in OversizedUpdate().analyze(made) if isinstance(each, Finding)]


def test_fires_on_updates_before_gradients_that_are_not_finite() -> None:
    (finding,) = found(trained([0.001, 0.3, 0.9, 0.9], [1.0, 5.0, 100.0, NAN]))
    assert (finding.step, finding.sites, str(finding.location)) == (1, ("fc.weight",), "train.py:41")
    assert "step 3" in finding.message
    assert "(10)" in finding.fix


def test_fires_on_gradients_that_grow_with_such_updates() -> None:
    norms = [1.0, 20.0, 400.0, 8000.0, *(16 * [1e5])]
    (finding,) = found(trained(20 * [0.3], norms))
    assert finding.step == 0
    assert "gradients grow" in finding.message


def test_fires_on_a_loss_that_climbs_once_it_has_been_seen() -> None:
    high = [1.0, *(29 * [3.0])]
    made = trained(30 * [0.2], high, {0: 1.0})
    assert [type(each) for each in OversizedUpdate().analyze(made)] == [Request]
    (finding,) = found(replace(made, losses={0: 1.0, 18: 7.0, 20: 5.0, 22: 6.0}))
    assert "5-fold" in finding.message
    assert not found(replace(made, losses={0: 1.0, 18: 7.0, 20: 1.5, 22: 6.0}))


def test_asks_for_another_look_until_there_are_enough_or_one_is_low() -> None:
    made = trained(30 * [0.2], [1.0, *(29 * [3.0])], {0: 1.0, 18: 5.0})
    (request,) = OversizedUpdate().analyze(made)
    assert isinstance(request, Request)
    assert "Look 2 of 3" in request.reason
    assert not list(OversizedUpdate().analyze(replace(made, losses={0: 1.0, 18: 0.9})))
    assert found(replace(made, complete=True))


def test_fires_on_weights_that_are_replaced_while_the_loss_stays() -> None:
    ratios = [0.7, 0.8, 0.9, *(27 * [0.01])]
    (finding,) = found(trained(ratios, 30 * [1.0], {0: 1.6, 18: 2.1, 20: 1.7, 22: 2.2}))
    assert finding.step == 0
    assert not found(trained(ratios, 30 * [1.0], {0: 1.6, 18: 2.1, 20: 1.4, 22: 2.2}))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("usual updates", trained(30 * [0.001], 30 * [1.0], HIGH)),
        ("large updates by which the loss falls", trained(30 * [0.3], 30 * [1.0], {0: 1.0, 20: 0.2})),
        ("large updates without a second look", trained(30 * [0.3], [1.0, *(29 * [5.0])], {0: 1.0})),
        ("a first overshoot", trained(20 * [0.3], [1.0, 50.0, 5000.0, 50.0, *(16 * [2.0])], {0: 1.0, 18: 0.5})),
        ("NaN after small updates", trained([0.6, 0.001, 0.001, 0.001], [1.0, 1.0, 1.0, NAN])),
        ("two large updates", trained([0.8, 0.8, *(28 * [0.01])], [1.0, *(29 * [5.0])], HIGH)),
        ("a loss below zero", trained(30 * [0.3], [1.0, *(29 * [5.0])], {0: -1.0, 18: 3.0, 20: 3.0, 22: 3.0})),
        ("nothing", recording()),
    ],
)  # fmt: skip
def test_silent_on(name: str, made: Recording) -> None:
    assert not found(made)


def test_silent_on_weights_that_have_yet_to_grow() -> None:
    ratios = [0.9, 0.8, 0.7, *(27 * [0.01])]
    made = replace(trained(ratios, [1.0, *(29 * [3.0])], {0: 1.0, 18: 9.0}), complete=True)
    assert found(made)
    begun = math.sqrt(made.sites[0].shape[0])  # the norm of weights of size 1
    (shaped,) = {each.shape for each in made.sites}
    for times, fires in ((1, True), (20, False)):
        rows = round(3 * (times * begun) ** 2)
        wide = tuple(replace(each, shape=(rows, *shaped)) for each in made.sites)
        assert bool(found(replace(made, sites=wide))) == fires


def test_silent_where_gradients_grow_over_depth() -> None:
    layers = {f"fc{i}": 20.0 ** (8 - i) for i in range(8)}
    made = recording(
        steps=3,
        parameter={"fc.weight": 1.0},
        update={"fc.weight": 0.9},
        parameter_gradient={"fc.weight": [1.0, 1.0, NAN]},
    )
    assert found(made)
    steep = recording(
        steps=3,
        parameter={"fc.weight": 1.0},
        update={"fc.weight": 0.9},
        parameter_gradient={"fc.weight": [1.0, 1.0, NAN]},
        activation_gradient=layers,
    )
    assert not found(steep)


def test_thresholds_are_fields() -> None:
    made = trained([0.001, 0.3, 0.4, 0.4], [1.0, 5.0, 100.0, NAN])
    assert not list(OversizedUpdate().analyze(made))
    assert list(OversizedUpdate(whole=0.35).analyze(made))
