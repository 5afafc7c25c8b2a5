from dataclasses import replace

import pytest

from gradscope.analyzer import Request
from gradscope.analyzers.dead_units import DeadUnits
from gradscope.findings import Finding
from gradscope.records import ParameterInfo, Recording
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation, Range

ZERO, SOME, LOW = Range(0.0, 0.0), Range(-1.0, 1.0), Range(-21.0, -18.5)
NAMES = ("0.weight", "2.weight")
FED = [ParameterInfo(name, name[0], optimizer_steps=5, contributions=5) for name in NAMES]
LINE = Location("model.py", 7)


def made_by(index: int | None, path: str = "") -> Operand:
    return Operand(operation=index, parameter=path, has_graph=True)


def layers(name: str = "relu", values: Range = ZERO, before: Range = LOW) -> list[Operation]:
    return [
        Operation(0, "linear", "0", None, 0, (made_by(None, NAMES[0]),), has_graph=True, values=before, gradient=ZERO),
        Operation(1, name, "1", LINE, 0, (made_by(0),), has_graph=True, values=values, gradient=SOME),
        Operation(
            2, "linear", "2", None, 0, (made_by(1), made_by(None, NAMES[1])), has_graph=True, values=SOME, gradient=SOME
        ),
        Operation(3, "mean", operands=(made_by(2),), has_graph=True, is_loss=True, values=SOME, gradient=SOME),
    ]


def dead(**changes: object) -> Recording:
    given: dict[str, object] = {
        "parameters": FED,
        "parameter": dict.fromkeys(NAMES, 1.0),
        "parameter_gradient": {NAMES[0]: 0.0, NAMES[1]: 1.0},
        "operations": layers(),
    }
    return recording(**(given | changes))  # type: ignore[arg-type]


def found(made: Recording) -> list[Finding]:
    return [each for each in DeadUnits().analyze(made) if isinstance(each, Finding)]


@pytest.mark.parametrize("name", ["relu", "relu_", "clamp", "threshold", "gelu", "hardswish"])
def test_fires_on_a_rectifier_that_lets_nothing_through(name: str) -> None:
    (finding,) = found(dead(operations=layers(name)))
    assert (finding.step, finding.sites, str(finding.location)) == (0, NAMES[:1], "model.py:7")
    assert "at most -18.5" in finding.evidence


def test_fires_on_the_last_layer_if_the_loss_is_not_zero() -> None:
    last = [*layers()[:2], replace(layers()[3], operands=(made_by(1),))]
    zeros = dict.fromkeys(NAMES, 0.0)
    assert found(dead(operations=last, parameter_gradient=zeros))


def test_fires_on_a_layer_that_died_later_once_it_is_traced() -> None:
    died = {NAMES[0]: 3 * [1.0] + 25 * [0.0], NAMES[1]: 1.0}
    made = dead(steps=28, parameter_gradient=died)
    assert [type(each) for each in DeadUnits().analyze(made)] == [Request]
    (finding,) = found(replace(made, operations=tuple(replace(each, step=25) for each in layers())))
    assert finding.step == 3


def deep(before: Range = LOW, mixed: bool = False) -> list[Operation]:
    """A rectifier, a layer that it feeds, and a second rectifier; `mixed` adds something else to what that is given."""
    first, second = layers(before=before)[:2]
    between = Operation(2, "linear", "2", None, 0, (made_by(1),), has_graph=True, values=LOW, gradient=ZERO)
    both = (made_by(2), made_by(0)) if mixed else (made_by(2),)
    return [
        first,
        replace(second, gradient=ZERO),
        between,
        Operation(3, "add", "", None, 0, both, has_graph=True, values=LOW, gradient=ZERO),
        Operation(
            4, "relu", "3", Location("model.py", 9), 0, (made_by(3),), has_graph=True, values=ZERO, gradient=SOME
        ),
        Operation(
            5, "linear", "4", None, 0, (made_by(4), made_by(None, NAMES[1])), has_graph=True, values=SOME, gradient=SOME
        ),
        Operation(6, "mean", operands=(made_by(5),), has_graph=True, is_loss=True, values=SOME, gradient=SOME),
    ]


def test_the_first_of_dead_layers_in_a_row_is_named() -> None:
    (finding,) = found(dead(operations=deep()))
    assert (finding.sites, str(finding.location)) == (NAMES[:1], "model.py:7")
    (finding,) = found(dead(operations=deep(mixed=True)))
    assert str(finding.location) == "model.py:9"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sparsity", {
            "operations": layers(values=Range(0.0, 2.0)), "parameter_gradient": {NAMES[0]: 1e-9, NAMES[1]: 1.0}}),
        ("zeros that a mask made", {"operations": layers("mul")}),
        ("units that are seen again", {"parameter_gradient": {NAMES[0]: [0.0, 0.0, 0.0, 0.0, 1.0], NAMES[1]: 1.0}}),
        ("a few odd batches later", {
            "steps": 30, "parameter_gradient": {NAMES[0]: 20 * [1.0] + 10 * [0.0], NAMES[1]: 1.0}}),
        ("a hinge that is satisfied", {"operations": [*layers()[:2], replace(
            layers()[3], operands=(made_by(1),), values=ZERO)]}),
        ("a saturated clamp", {"operations": layers("clamp", Range(1.0, 1.0), Range(2.0, 3.0))}),
        ("two steps", {"steps": 2}),
        ("frozen parameters", {"parameters": [replace(each, trainable=False) for each in FED]}),
        ("no trace", {"operations": ()}),
    ],
)  # fmt: skip
def test_silent_on(name: str, changes: dict[str, object]) -> None:
    assert not found(dead(**changes))


def test_thresholds_are_fields() -> None:
    assert not list(DeadUnits(steps=6).analyze(dead()))
