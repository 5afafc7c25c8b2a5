from dataclasses import replace
from typing import Any

import pytest

from gradscope.analyzers.lost_update import LostUpdate
from gradscope.findings import Finding
from gradscope.records import Recording, StepEnd
from gradscope.testing import recording, step_event
from gradscope.traces import Location

NAMES = ("fc.weight", "fc.bias")
LINE = Location("train.py", 41)


def trained(dtype: str = "bfloat16", rates: Any = 1e-5, **changes: Any) -> Recording:
    each = rates if isinstance(rates, list) else [rates] * 10
    given: dict[str, Any] = {
        "steps": len(each),
        "parameter": {"fc.weight": 0.1, "fc.bias": 0.1},
        "parameter_gradient": dict.fromkeys(NAMES, 0.01),
        "update": dict.fromkeys(NAMES, 1e-5),
        "count": {"fc.weight": 1000, "fc.bias": 10},
        "events": {step: [step_event(rate=rate, location=LINE)] for step, rate in enumerate(each)},
    }
    made = recording(**(given | changes))
    return replace(made, sites=tuple(replace(site, dtype=dtype) for site in made.sites))


def found(made: Recording) -> list[Finding]:
    return list(LostUpdate().analyze(made))


def updates(size: Any) -> dict[str, Any]:
    return {"update": dict.fromkeys(NAMES, size)}


def test_fires_on_weights_in_half_precision() -> None:
    (finding,) = found(trained())
    assert (finding.step, finding.sites, str(finding.location)) == (0, NAMES, "train.py:41")
    assert "bfloat16" in finding.message
    assert "autocast" in finding.fix


def test_fires_where_a_small_parameter_still_moves() -> None:
    (finding,) = found(trained(update={"fc.weight": 1e-5, "fc.bias": 1e-2}))
    assert finding.sites == NAMES[:1]


def test_fires_on_a_learning_rate_below_the_resolution_of_float32() -> None:
    (finding,) = found(trained("float32", 1e-9, **updates(1e-11)))
    assert "raise the learning rate (1e-09)" in finding.fix
    assert found(trained("float32", 1e-9, **updates(0.0)))


def test_fires_on_an_optimizer_that_does_not_write() -> None:
    (finding,) = found(trained("float32", 0.01, **updates(0.0)))
    assert "changes no weight at all" in finding.message
    assert "in place" in finding.fix


def test_fires_since_the_step_from_which_it_has_been_so() -> None:
    (finding,) = found(trained(rates=12 * [1e-5], **updates(2 * [1e-3] + 10 * [1e-5])))
    assert finding.step == 2


def test_fires_without_a_learning_rate_where_some_elements_move() -> None:
    assert found(trained(rates=None))
    assert not found(trained(rates=None, **updates(0.0)))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("updates that can be seen", trained(**updates(1e-3))),
        ("float32 weights", trained("float32")),
        ("convergence in float32", trained("float32", 0.01, **updates(1e-12))),
        ("convergence in float32, where nothing at all moves", trained(
            "float32", 0.01, parameter_gradient=dict.fromkeys(NAMES, 1e-9), **updates(0.0))),
        ("convergence in half precision", trained(
            rates=20 * [1e-5], parameter_gradient=dict.fromkeys(NAMES, 10 * [1.0] + 10 * [1e-3]))),
        ("a learning rate of zero", trained(rates=0.0, **updates(0.0))),
        ("a frozen group beside one that learns", trained(
            rates=0.0, update={"fc.weight": 0.0, "fc.bias": 1e-2})),
        ("a warm-up", trained(rates=[1e-6 * (step + 1) for step in range(10)])),
        ("the end of a schedule", trained(rates=[1e-4, *(9 * [1e-5])])),
        ("steps that a loss scaler skipped", trained(ends=dict.fromkeys(range(10), StepEnd.CLEARED), **updates(0.0))),
        ("stochastic rounding, or float32 copies: now and then an element moves", trained(
            **updates([0.0, 0.0, 0.0, 5e-4, 0.0, 0.0, 0.0, 0.0, 5e-4, 0.0]))),
        ("gradients of zero", trained(parameter_gradient=dict.fromkeys(NAMES, 0.0), **updates(0.0))),
        ("a few parameters only", trained(update={"fc.weight": 1e-2, "fc.bias": 1e-5})),
        ("a short run", trained(rates=7 * [1e-5])),
        ("nothing that was updated", recording(parameter={"fc.weight": 1.0}, steps=10)),
    ],
)  # fmt: skip
def test_silent_on(name: str, made: Recording) -> None:
    assert not found(made)


def test_thresholds_are_fields() -> None:
    assert not list(LostUpdate(steps=11).analyze(trained()))
    assert list(LostUpdate(share=0.005).analyze(trained(update={"fc.weight": 1e-2, "fc.bias": 1e-5})))
