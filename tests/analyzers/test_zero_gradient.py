from dataclasses import replace

import pytest

from gradscope.analyzer import Request
from gradscope.analyzers.zero_gradient import ZeroGradient
from gradscope.findings import Finding, Severity
from gradscope.records import ParameterInfo, Recording, StepEnd
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation, Range

ZERO, SOME = Range(0.0, 0.0), Range(-1.0, 1.0)
NAMES = ("down.weight", "up.weight", "out.weight")
LINE = Location("model.py", 14)


def made_by(index: int | None, path: str = "") -> Operand:
    return Operand(operation=index, parameter=path, has_graph=True)


def adapter(down: Range = ZERO, at_down: Range = ZERO) -> list[Operation]:
    """up(down(x)), with what down gave and what gradient it received."""
    return [
        Operation(
            0, "linear", "down", None, 0, (made_by(None, NAMES[0]),), has_graph=True, values=down, gradient=at_down
        ),
        Operation(
            1,
            "linear",
            "up",
            LINE,
            0,
            (made_by(0), made_by(None, NAMES[1])),
            has_graph=True,
            values=ZERO,
            gradient=SOME,
        ),
        Operation(
            2,
            "linear",
            "out",
            operands=(made_by(1), made_by(None, NAMES[2])),
            has_graph=True,
            is_loss=True,
            values=SOME,
            gradient=SOME,
        ),
    ]


FED = [ParameterInfo(name, name.partition(".")[0], optimizer_steps=5, contributions=5) for name in NAMES]
STILL = {NAMES[0]: 0.0, NAMES[1]: 0.0, NAMES[2]: 1.0}


def stuck(**changes: object) -> Recording:
    given: dict[str, object] = {
        "parameters": FED,
        "parameter": STILL,
        "parameter_gradient": STILL,
        "operations": adapter(),
    }
    return recording(**(given | changes))  # type: ignore[arg-type]


def found(made: Recording) -> list[Finding]:
    return [each for each in ZeroGradient().analyze(made) if isinstance(each, Finding)]


def test_fires_where_both_factors_are_zero() -> None:
    (finding,) = found(stuck())
    assert (finding.severity, finding.step, finding.sites) == (Severity.ERROR, 0, NAMES[:2])
    assert str(finding.location) == "model.py:14"
    assert finding.scope == "2 of 3 parameters"


def test_fires_once_for_many_such_products() -> None:
    first, names = adapter(), ("b.down.weight", "b.up.weight")
    shifted = [
        replace(
            each,
            index=each.index + 3,
            operands=tuple(
                o._replace(
                    operation=None if o.operation is None else o.operation + 3,
                    parameter=o.parameter and "b." + o.parameter,
                )
                for o in each.operands
            ),
        )
        for each in first[:2]
    ]
    last = replace(first[2], index=5, operands=(made_by(1), made_by(4), made_by(None, NAMES[2])))
    more = [ParameterInfo(name, "b", optimizer_steps=5, contributions=5) for name in names]
    zeros = STILL | dict.fromkeys(names, 0.0)
    made = stuck(
        parameters=FED + more, parameter=zeros, parameter_gradient=zeros, operations=[*first[:2], *shifted, last]
    )
    (finding,) = found(made)
    assert set(finding.sites) == {*NAMES[:2], *names}
    assert "one more such product" in finding.evidence


def test_fires_as_a_note_at_the_end_where_nothing_explains_the_zeros() -> None:
    made = stuck(parameter=dict.fromkeys(NAMES, 1.0), operations=adapter(SOME), steps=12, complete=True)
    (finding,) = found(made)
    assert (finding.severity, finding.sites) == (Severity.NOTE, NAMES[:2])
    assert "linear passes on only zeros" in finding.evidence
    assert str(finding.location) == "model.py:14"
    assert not found(replace(made, complete=False))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a low-rank adapter whose B is zero", {"parameter_gradient": STILL | {NAMES[1]: 1.0}}),
        ("one zero factor, while the other one is not", {
            "parameter": STILL | {NAMES[0]: 1.0}, "operations": adapter(SOME)}),
        ("an input of zeros that comes from outside", {"operations": [replace(adapter()[1], operands=(
            Operand(shape=(4, 2)), made_by(None, NAMES[1]))), *adapter()[2:]]}),
        ("gradients that come in the third step", {"parameter_gradient": STILL | {
            NAMES[0]: [0.0, 0.0, 1.0, 1.0, 1.0], NAMES[1]: [0.0, 0.0, 1.0, 1.0, 1.0]}}),
        ("a run of two steps", {"steps": 2}),
        ("steps that a loss scaler skipped", {"ends": dict.fromkeys(range(4), StepEnd.CLEARED)}),
        ("frozen parameters", {"parameters": [replace(each, trainable=False) for each in FED]}),
        ("parameters without a gradient", {"parameters": [replace(each, contributions=0) for each in FED]}),
        ("a loss that is exactly zero", {"parameter_gradient": dict.fromkeys(NAMES, 0.0), "complete": True, "steps": 20,
            "parameter": dict.fromkeys(NAMES, 1.0), "operations": adapter(SOME)}),
        ("a bias of zero whose gradients cancel out", {"operations": [replace(adapter()[1], operands=(
            made_by(None, NAMES[1]), made_by(None, "up.bias"))), *adapter()[2:]]}),
        ("no trace", {"operations": ()}),
    ],
)  # fmt: skip
def test_silent_on(name: str, changes: dict[str, object]) -> None:
    assert not found(stuck(**changes))


def test_asks_for_a_trace_when_gradients_become_zero_later() -> None:
    later = STILL | {NAMES[0]: [1.0] + 20 * [0.0]}
    requests = list(ZeroGradient().analyze(stuck(steps=21, parameter_gradient=later)))
    assert any(isinstance(each, Request) for each in requests)
    assert not any(isinstance(each, Request) for each in ZeroGradient().analyze(stuck()))


def test_thresholds_are_fields() -> None:
    assert not list(ZeroGradient(steps=6).analyze(stuck()))
