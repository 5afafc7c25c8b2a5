from dataclasses import replace

import numpy as np
import pytest

from gradscope.analyzers.saturated_activation import SaturatedActivation
from gradscope.findings import Finding
from gradscope.records import ParameterInfo, Recording, Step
from gradscope.testing import recording
from gradscope.traces import Operand, Operation, Range

ZERO, SOME = Range(0.0, 0.0), Range(-1.0, 1.0)
NAMES = ("fc.weight", "out.weight")
FED = [ParameterInfo(name, name.partition(".")[0], optimizer_steps=5, contributions=5) for name in NAMES]


def made_by(index: int | None, path: str = "") -> Operand:
    return Operand(operation=index, parameter=path, has_graph=True)


def layers(name: str = "tanh", module: str = "", *, gradient: Range = SOME, values: Range = SOME) -> list[Operation]:
    return [
        Operation(0, "linear", "fc", operands=(made_by(None, NAMES[0]),), has_graph=True, gradient=gradient),
        Operation(1, name, module, operands=(made_by(0),), has_graph=True, values=values, gradient=SOME),
        Operation(
            2,
            "linear",
            "out",
            operands=(made_by(1), made_by(None, NAMES[1])),
            has_graph=True,
            is_loss=True,
            values=SOME,
            gradient=SOME,
        ),
    ]


def found(made: Recording) -> list[Finding]:
    return [each for each in SaturatedActivation().analyze(made) if isinstance(each, Finding)]


def changed(made: Recording, by: float = 0.0, largest: float = 1.0) -> Recording:
    """The same, with all activations moved by so much, and the largest one so many times as large."""
    steps = []
    for step in made.steps:
        assert step.stored is not None
        rows = step.stored.copy()
        rows[:, 1] += by * rows[:, 0]
        rows[:, 2] += by * by * rows[:, 0]
        rows[:, 3:] += by
        rows[:, 4] *= largest
        steps.append(Step(step.index, step.end, step.events, rows, step.calls))
    return replace(made, steps=tuple(steps))


def test_fires_on_a_wide_input() -> None:
    (finding,) = found(recording(activation={"fc": 100.0}, operations=layers()))
    assert (finding.step, finding.sites) == (0, ("fc",))
    assert "between -100 and 100" in finding.message


def test_fires_on_a_module_whose_output_says_so() -> None:
    assert found(recording(activation={"fc": 30.0, "act": 0.99}, operations=layers(module="act")))
    assert not found(recording(activation={"fc": 30.0, "act": 0.9}, operations=layers(module="act")))


def test_fires_on_an_input_that_is_far_away_as_a_whole() -> None:
    made = recording(activation={"fc": 0.5}, operations=layers("sigmoid"))
    assert found(changed(made, -20.0))
    assert not found(changed(made, -6.0))


def test_fires_where_no_gradient_comes_through_at_all() -> None:
    made = recording(
        parameters=FED,
        parameter_gradient={NAMES[0]: 0.0, NAMES[1]: 1.0},
        operations=layers("hardtanh", "act", gradient=ZERO, values=Range(1.0, 1.0)),
    )
    (finding,) = found(made)
    assert (finding.cause, finding.sites) == ("shut", NAMES[:1])
    assert "between 1 and 1" in finding.evidence


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("usual inputs", recording(activation={"fc": 2.0}, operations=layers())),
        ("a spread that a few outliers make", changed(recording(
            activation={"fc": 100.0}, operations=layers()), largest=10.0)),
        ("an output of the model", recording(activation={"fc": 100.0}, operations=[
            *layers()[:1], replace(layers()[1], is_loss=True)])),
        ("an input that comes from outside", recording(activation={"fc": 100.0}, operations=[
            replace(layers()[1], operands=(Operand(has_graph=True),)), layers()[2]])),
        ("layers that leave their flat parts", recording(
            activation={"fc": [100.0, 90.0, 50.0, 5.0, 2.0]}, operations=layers())),
        ("four steps", recording(steps=4, activation={"fc": 100.0}, operations=layers())),
        ("soft bins of the data", recording(activation={"fc": 100.0}, operations=[
            replace(layers()[0], name="sub"), *layers()[1:]])),
        ("another function", recording(activation={"fc": 100.0}, operations=layers("relu"))),
    ],
)  # fmt: skip
def test_silent_on(name: str, made: Recording) -> None:
    assert not np.isnan(made.stored).any()
    assert not found(made)


def test_thresholds_are_fields() -> None:
    made = recording(activation={"fc": 100.0}, operations=layers())
    assert not list(SaturatedActivation(steepness=0.001).analyze(made))
    assert not list(SaturatedActivation(spread=200.0).analyze(made))
