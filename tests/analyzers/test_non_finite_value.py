from dataclasses import replace
from math import inf, nan
from typing import Any

from gradscope.analyzer import Request
from gradscope.analyzers.non_finite_value import NonFiniteValue
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Finding
from gradscope.records import Recording, StepEnd
from gradscope.testing import recording, step_event
from gradscope.traces import Location, Operand, Operation, Range

FINE: dict[str, Any] = {"fc1": 1.0, "fc2": 1.0, "head": 1.0}
BACK: dict[str, Any] = {"fc1": 0.1, "fc2": 0.1, "head": 0.1}


def found(made: Recording) -> list[Finding]:
    return [result for result in NonFiniteValue().analyze(made) if isinstance(result, Finding)]


def requests(made: Recording) -> list[Request]:
    return [result for result in NonFiniteValue().analyze(made) if isinstance(result, Request)]


FINITE, NAN, ABOVE = Range(-1.0, 1.0), Range(nan, nan), Range(0.0, inf)


def operation(index: int, name: str, *sources: int, **fields: Any) -> Operation:
    operands = tuple(Operand((4,), source, has_graph=True) for source in sources)
    options: dict[str, Any] = {
        "values": FINITE,
        "gradient": FINITE,
        "has_graph": True,
        "location": Location("net.py", 10 + index),
        "operands": operands or (Operand(has_graph=True),),
    }
    return Operation(index, name, **options | fields)


def run(**options: Any) -> Recording:
    given: dict[str, Any] = {"steps": 3, "activation": FINE, "activation_gradient": BACK} | options
    return recording(**given)


def test_fires_on_the_first_output_with_nan() -> None:
    (finding,) = found(run(activation=FINE | {"fc2": [1.0, nan, nan], "head": [1.0, nan, nan]}))
    assert (finding.step, finding.sites) == (1, ("fc2",))
    assert finding.message == "NaN is born in the forward of 'fc2' (Module)"


def test_fires_on_the_new_inf_before_the_nan() -> None:
    (finding,) = found(run(activation=FINE | {"fc1": [1.0, 1.0, inf], "fc2": [1.0, 1.0, nan]}))
    assert (finding.step, finding.sites) == (2, ("fc1",))
    assert finding.message.startswith("Inf is born in the forward")


def test_fires_on_the_nan_and_not_on_the_mask_before_it() -> None:
    (old,) = found(run(activation=FINE | {"fc1": -inf, "fc2": [1.0, nan, nan]}))
    (first,) = found(run(activation=FINE | {"fc1": -inf, "fc2": nan}))
    assert old.sites == first.sites == ("fc2",)


def test_fires_with_advice_about_the_data_on_the_first_output() -> None:
    (finding,) = found(run(activation=dict.fromkeys(FINE, nan)))
    assert "check the input" in finding.fix


def test_fires_on_a_loss_with_the_line_of_backward() -> None:
    events = {1: [LoopEvent(EventKind.BACKWARD, Location("train.py", 30)), step_event()]}
    (finding,) = found(run(activation_gradient={name: [0.1, nan, nan] for name in BACK}, events=events))
    assert (finding.step, finding.sites, finding.message) == (1, ("head",), "NaN is born in the loss")
    assert str(finding.location) == "train.py:30"


def test_fires_on_a_backward_between_two_modules() -> None:
    (finding,) = found(run(activation_gradient={"fc1": [0.1, nan, nan], "fc2": [0.1, inf, nan], "head": 0.1}))
    assert finding.message == "Inf is born in the backward between 'head' (Module) and 'fc2' (Module)"
    assert finding.location is None


def test_fires_on_an_output_that_overflowed_before_the_loss_did() -> None:
    (finding,) = found(run(activation=FINE | {"head": [1.0, inf, inf]}, activation_gradient={"head": [0.1, nan, nan]}))
    assert finding.message == "Inf is born in the forward of 'head' (Module)"


def test_fires_on_the_gradient_of_a_parameter() -> None:
    (finding,) = found(run(parameter_gradient={"fc1.weight": 1.0, "fc2.weight": [1.0, nan, nan]}))
    assert finding.message == "NaN is born in the gradient of 'fc2.weight'"


def test_fires_on_a_step_that_makes_weights_non_finite() -> None:
    (finding,) = found(run(parameter={"fc2.weight": [1.0, inf, inf]}))
    assert finding.message == "the step made 'fc2.weight' Inf"
    assert "optimizer" in finding.fix


def test_fires_on_an_update_before_the_forward_that_it_ruined() -> None:
    ruined = {"fc2": [1.0, 1.0, nan], "head": [1.0, 1.0, nan]}
    (finding,) = found(run(activation=FINE | ruined, parameter={"fc2.weight": [1.0, nan, nan]}))
    assert (finding.step, finding.message) == (1, "the step made 'fc2.weight' NaN")


def test_fires_on_a_step_that_was_not_observed() -> None:
    made = run(steps=4, activation=FINE | {"fc1": [1.0, 1.0, 1.0, nan]}, events={2: [step_event(non_finite=True)]})
    unseen = replace(made, steps=tuple(replace(s, stored=None) if s.index == 2 else s for s in made.steps))
    (finding,) = found(unseen)
    assert (finding.step, finding.sites) == (2, ())
    assert "not measured layer by layer" in finding.evidence


def test_fires_on_a_step_that_is_still_open() -> None:
    assert found(run(activation_gradient={"head": [0.1, 0.1, nan]}, ends={2: StepEnd.OPEN}))


def test_silent_on_masked_logits() -> None:
    assert not found(run(activation=FINE | {"fc1": -inf, "fc2": inf}))


def test_silent_on_a_step_that_a_scaler_skips() -> None:
    overflow = {"activation_gradient": {"fc1": [inf, 0.1, 0.1], "head": [nan, 0.1, 0.1]}}
    assert not found(run(**overflow, parameter_gradient={"fc1.weight": [inf, 1, 1]}, ends={0: StepEnd.CLEARED}))
    assert found(run(**overflow))


def test_silent_on_an_open_last_step_of_a_run_whose_scaler_skipped_before() -> None:
    overflow = {"head": [inf, 0.1, inf]}
    assert not found(run(activation_gradient=overflow, ends={0: StepEnd.CLEARED, 2: StepEnd.OPEN}))


def test_silent_when_a_fused_optimizer_ran_but_moved_nothing() -> None:
    overflow = {"activation_gradient": {"head": [0.1, inf, 0.1]}, "parameter_gradient": {"fc.weight": [1.0, inf, 1.0]}}
    assert not found(run(**overflow, update={"fc.weight": [0.1, 0.0, 0.1]}))
    assert found(run(**overflow, update={"fc.weight": [0.1, 0.1, 0.1]}))


def test_silent_on_a_sampled_gradient_after_which_the_weights_are_finite() -> None:
    made = run(parameter={"fc.weight": 1.0}, events={1: [step_event(non_finite=True)]})
    steps = tuple(replace(step, stored=None) if step.index == 1 else step for step in made.steps)
    assert not found(replace(made, steps=steps))
    assert found(replace(made, steps=steps[:2]))


def test_silent_on_finite_values_and_on_nothing() -> None:
    assert not found(run(parameter={"fc.weight": 1.0}, update={"fc.weight": 0.1}))
    assert not found(recording(steps=0))


def test_fires_on_the_operation_whose_result_is_the_first_that_is_not_finite() -> None:
    trace = [
        operation(0, "linear", step=0),
        operation(1, "log", 0, values=NAN, gradient=NAN, module="fc2"),
        operation(2, "mean", 1, values=NAN, is_loss=True),
    ]
    (finding,) = found(run(activation=FINE | {"fc2": nan, "head": nan}, operations=trace))
    assert finding.message == "NaN is born in log in 'fc2'"
    assert str(finding.location) == "net.py:11"
    assert "clamp" in finding.fix
    assert finding.table[1:] == (("linear net.py:10", "-1", "1"), ("log net.py:11", "nan", "nan"))


def test_fires_on_the_operation_whose_backward_makes_it() -> None:
    trace = [
        operation(0, "linear", gradient=NAN),
        operation(1, "sqrt", 0),
        operation(2, "where", 1, 0),
        operation(3, "mean", 2, is_loss=True),
    ]
    (finding,) = found(run(activation_gradient=BACK | {"fc1": nan}, operations=trace))
    assert finding.message == "NaN is born in the backward of sqrt"
    assert str(finding.location) == "net.py:11"
    assert [row[0] for row in finding.table[1:]] == [
        "mean net.py:13",
        "where net.py:12",
        "sqrt net.py:11",
        "what it gives linear net.py:10",
    ]


def test_fires_on_the_operation_that_uses_the_parameter() -> None:
    use = Operation(0, "sqrt", operands=(Operand(parameter="fc1.weight", has_graph=True),), gradient=FINITE)
    trace = [use, operation(1, "mean", 0, is_loss=True)]
    (finding,) = found(run(parameter_gradient={"fc1.weight": inf}, operations=trace))
    assert "the backward of sqrt" in finding.message


def test_fires_on_the_overflow_and_not_on_the_mask() -> None:
    trace = [
        operation(0, "masked_fill", values=Range(-inf, 1.0)),
        operation(1, "softmax", 0),
        operation(2, "exp", 1, values=ABOVE),
        operation(3, "sub", 2, 0, values=NAN, is_loss=True),
    ]
    (finding,) = found(run(activation=FINE | {"head": nan}, operations=trace))
    assert finding.message == "Inf is born in exp"


def test_fires_with_the_only_line_that_can_bear_it_when_another_step_was_traced() -> None:
    trace = [operation(0, "linear", module="head"), operation(1, "log", 0), operation(2, "mean", 1, is_loss=True)]
    (finding,) = found(run(activation_gradient=BACK | {"head": [0.1, nan, nan]}, operations=trace))
    assert (finding.step, str(finding.location)) == (1, "net.py:11")
    assert "log at net.py:11 is all there that can bear it, by the trace of step 0" in finding.evidence


def test_fires_without_a_line_where_several_can_bear_it() -> None:
    suspects = [operation(i, name, i - 1) for i, name in enumerate(("log", "sqrt", "acos", "exp"), start=1)]
    trace = [operation(0, "linear", module="head"), *suspects, operation(5, "mean", 4, is_loss=True)]
    (finding,) = found(run(activation_gradient=BACK | {"head": [0.1, nan, nan]}, operations=trace))
    assert finding.location is None
    assert "log at net.py:11, sqrt at net.py:12, acos at net.py:13 and 1 more are all there" in finding.evidence


def test_fires_with_the_line_where_all_that_can_bear_it_stands_on_one() -> None:
    line = Location("net.py", 20)
    suspects = [operation(1, "exp", 0, location=line), operation(2, "log", 1, location=replace(line, column=4))]
    trace = [operation(0, "linear", module="head"), *suspects, operation(3, "mean", 2, is_loss=True)]
    (finding,) = found(run(activation_gradient=BACK | {"head": [0.1, nan, nan]}, operations=trace))
    assert str(finding.location) == "net.py:20"
    assert "exp at net.py:20, log at net.py:20 are all there" in finding.evidence


def test_fires_at_the_softmax_of_a_mask_and_not_at_a_quotient_with_a_number() -> None:
    scaled = Location("net.py", 11, source="scores = q @ k / 12**0.5", column=9, end=24)
    trace = [
        operation(0, "linear", module="fc2"),
        operation(1, "div", 0, module="head", location=scaled),
        operation(2, "masked_fill", 1, module="head", values=Range(-inf, 1.0)),
        operation(3, "softmax", 2, module="head"),
        operation(4, "mean", 3, is_loss=True),
    ]
    (finding,) = found(run(activation=FINE | {"head": [1.0, nan, nan]}, operations=trace))
    assert str(finding.location) == "net.py:13"
    assert "softmax at net.py:13 is all there" in finding.evidence


def test_fires_at_a_number_that_is_divided_by_a_tensor() -> None:
    inverse = Location("net.py", 11, source="inverse = 1 / x", column=10, end=15)
    trace = [operation(0, "linear", module="fc2"), operation(1, "div", 0, module="head", location=inverse)]
    (finding,) = found(run(activation=FINE | {"head": [1.0, nan, nan]}, operations=trace))
    assert finding.location == inverse


def test_fires_at_what_is_computed_from_data_alone() -> None:
    quotient = operation(0, "div", module="fc1", operands=(Operand((4,)), Operand((4,))), has_graph=False)
    trace = [quotient, operation(1, "linear", 0, module="fc2"), operation(2, "mean", 1, is_loss=True)]
    (finding,) = found(run(activation={name: [1.0, nan, nan] for name in FINE}, operations=trace))
    assert str(finding.location) == "net.py:10"


def test_fires_and_asks_for_a_trace_unless_the_weights_hide_everything() -> None:
    bad = {"activation": FINE | {"fc2": [1.0, nan, nan]}}
    assert requests(run(**bad))
    assert not requests(run(**bad, complete=True))
    assert not requests(run(**bad, parameter={"fc2.weight": [1.0, nan, nan]}))


def test_silent_on_values_that_do_not_count_for_the_loss() -> None:
    aside = operation(1, "log", 0, values=NAN, gradient=None)
    trace = [operation(0, "linear"), aside, operation(2, "mean", 0, is_loss=True)]
    assert not found(run(operations=trace))


def test_fires_and_does_not_blame_a_layer_for_its_weights() -> None:
    weight = (Operand((3, 4), None, "fc1.weight", True),)
    first = replace(operation(0, "linear", module="fc1", values=NAN, gradient=None), operands=weight)
    made = run(activation=dict.fromkeys(FINE, nan), operations=[first, operation(1, "mean", 0, is_loss=True)])
    (finding,) = found(made)
    assert "its weights before the run" in finding.fix


def test_fires_with_a_table_of_the_way_from_the_loss_only() -> None:
    trace = [
        operation(0, "linear", gradient=NAN),
        operation(1, "sqrt", 0),
        operation(2, "cross_entropy"),
        operation(3, "add", 1, 2, is_loss=True),
    ]
    (finding,) = found(run(activation_gradient=BACK | {"fc1": [nan, 0.1, 0.1]}, operations=trace))
    assert [line[0].split()[0] for line in finding.table[1:]] == ["add", "sqrt", "what"]
