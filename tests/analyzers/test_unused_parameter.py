from dataclasses import replace
from typing import Any

from gradscope.analyzers.unused_parameter import UnusedParameter
from gradscope.findings import Finding
from gradscope.records import Call, ParameterInfo, Recording
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation

FED = ParameterInfo("body.weight", "body", optimizer_steps=5, contributions=5)
IDLE = ParameterInfo("aux.weight", "aux", optimizer_steps=5)
AUX, BODY = (Operand((2, 2), None, name, has_graph=True) for name in ("aux.weight", "body.weight"))
BOTH = {"body": Call.GRAD, "aux": Call.GRAD}


def found(made: Recording) -> list[Finding]:
    return list(UnusedParameter().analyze(made))


def run(*parameters: ParameterInfo, **options: Any) -> Recording:
    given: dict[str, Any] = {"calls": BOTH, "activation_gradient": {"body": 1.0}, "complete": True} | options
    return recording(parameters=parameters or (FED, IDLE), **given)


def test_fires_on_a_module_that_was_never_called() -> None:
    (finding,) = found(run(calls={"body": Call.GRAD}))
    assert finding.message == "'aux.weight' never received a gradient: no forward called its module"
    assert "no call of 'aux' in the 5" in finding.evidence


def test_fires_on_a_result_that_nobody_used() -> None:
    (finding,) = found(run())
    assert finding.message == "'aux.weight' never received a gradient: what it computed did not reach the loss"


def test_fires_with_one_finding_for_each_reason() -> None:
    never = [ParameterInfo(f"old.{i}.weight", f"old.{i}", optimizer_steps=5) for i in range(4)]
    called, ignored = found(run(FED, IDLE, *never))
    assert (len(called.sites), ignored.sites) == (4, ("aux.weight",))
    assert called.cause != ignored.cause
    assert called.scope == "4 of 6 parameters"


def test_fires_differently_on_what_its_container_uses_itself() -> None:
    trace = [Operation(0, "linear", "attention", operands=(AUX,), has_graph=True)]
    (finding,) = found(run(calls={"body": Call.GRAD}, operations=trace))
    assert "did not reach the loss" in finding.message


def test_it_names_the_line_that_computes_what_nobody_uses() -> None:
    lines = {4: BODY, 5: AUX, 6: AUX}
    trace = [
        Operation(index, "linear", "", Location("net.py", line), 0, (lines[line],), has_graph=True)
        for index, line in enumerate(lines)
    ]
    (finding,) = found(run(operations=trace))
    assert str(finding.location) == "net.py:5"
    (finding,) = found(run(operations=trace[:1]))
    assert finding.location is None


def test_silent_until_the_run_is_over() -> None:
    assert not found(run(complete=False))


def test_silent_on_what_a_cut_explains() -> None:
    assert not found(run(activation={"aux": 1.0, "body": 1.0}))
    assert not found(run(calls={"body": Call.GRAD, "aux": Call.NO_GRAD}))
    for cut in ("detach", "argmax"):
        trace = [
            Operation(0, "linear", "aux", operands=(AUX,), has_graph=True),
            Operation(1, cut, "aux", operands=(Operand((5, 2), 0, has_graph=True),), differentiable=cut == "detach"),
            Operation(2, "linear", "body", operands=(Operand((5, 2), 1), BODY), has_graph=True, is_loss=True),
        ]
        assert not found(run(operations=trace))
        assert found(run(operations=trace[::2]))


def test_silent_on_an_expert_that_ran_once_and_on_frozen_parameters() -> None:
    assert not found(run(FED, replace(IDLE, contributions=1)))
    assert not found(run(FED, replace(IDLE, trainable=False)))


def test_silent_on_a_model_that_nobody_trained() -> None:
    assert not found(run(replace(FED, contributions=0), IDLE))
