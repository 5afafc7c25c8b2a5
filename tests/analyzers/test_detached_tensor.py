from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gradscope.analyzer import Request
from gradscope.analyzers.detached_tensor import DetachedTensor
from gradscope.findings import Finding
from gradscope.records import Call, ParameterInfo, Recording, StepEnd
from gradscope.testing import recording
from gradscope.traces import Failure, Location, Operation

FED = ParameterInfo("head.weight", "head", optimizer_steps=3, contributions=3)
STARVED = ParameterInfo("encoder.weight", "encoder", optimizer_steps=3)
CALLS = {"encoder": Call.GRAD | Call.OUTPUT_REQUIRES_GRAD, "head": Call.GRAD | Call.OUTPUT_REQUIRES_GRAD}
BACK: dict[str, Any] = {"head": 1.0}


def found(made: Recording) -> list[Finding]:
    results = list(DetachedTensor().analyze(made))
    assert not any(isinstance(result, Request) for result in results)
    return [result for result in results if isinstance(result, Finding)]


def requests(made: Recording) -> list[Request]:
    return [result for result in DetachedTensor().analyze(made) if isinstance(result, Request)]


def run(*parameters: ParameterInfo, **options: Any) -> Recording:
    calls = options.get("calls", CALLS)
    outputs = dict.fromkeys(calls, 1.0)  # which puts the modules into this order
    given: dict[str, Any] = {"calls": calls, "activation": outputs, "activation_gradient": BACK} | options
    return recording(parameters=parameters or (STARVED, FED), **given)


def through(*middle: Operation) -> Iterable[Operation]:
    """encoder, then the operations given (indices from 1 on), then head and loss."""
    yield Operation(0, "linear", "encoder", parameters=("encoder.weight",), had_graph=True, has_graph=True)
    yield from middle
    last = (middle[-1].index if middle else 0,)
    yield Operation(
        90, "linear", "head", inputs=last if middle else (), parameters=("head.weight",), had_graph=True, has_graph=True
    )
    yield Operation(91, "mse_loss", inputs=(90,), had_graph=True, has_graph=True, is_loss=True)


DETACH = Operation(1, "detach", "encoder", Location("net.py", 7), inputs=(0,), had_graph=True)


def test_fires_on_the_operation_that_cuts() -> None:
    (finding,) = found(run(operations=through(DETACH)))
    assert finding.message == ".detach() in module 'encoder' cuts the graph: 'encoder.weight' receives no gradient"
    assert (finding.sites, finding.scope, str(finding.location)) == (
        ("encoder.weight",),
        "1 of 2 parameters",
        "net.py:7",
    )


def test_fires_and_names_the_last_module_when_the_cut_is_in_none() -> None:
    first = ParameterInfo("stem.weight", "stem", optimizer_steps=3)
    stem = Operation(-1, "linear", "stem", parameters=("stem.weight",), had_graph=True, has_graph=True)
    encoder = Operation(0, "linear", "encoder", None, (-1,), ("encoder.weight",), True, True)
    operations = [stem, encoder, replace(DETACH, module=""), *list(through(DETACH))[2:]]
    (finding,) = found(run(first, STARVED, FED, operations=operations, calls={"stem": Call.GRAD} | CALLS))
    assert "after 'encoder'" in finding.message
    assert finding.sites == ("stem.weight", "encoder.weight")


def test_fires_once_for_each_cut_with_its_own_parameters() -> None:
    middle = ParameterInfo("middle.weight", "middle", optimizer_steps=3)
    use = Operation(2, "linear", "middle", None, (1,), ("middle.weight",), True, True)
    second = Operation(3, "detach", "middle", inputs=(2,), had_graph=True)
    findings = found(run(STARVED, middle, FED, operations=through(DETACH, use, second)))
    assert [finding.sites for finding in findings] == [("encoder.weight",), ("middle.weight",)]


def test_fires_once_for_a_whole_stretch_without_grad_mode() -> None:
    weights = [ParameterInfo(f"encoder.{i}.weight", f"encoder.{i}", optimizer_steps=3) for i in range(3)]
    off = [
        Operation(i + 1, "linear", f"encoder.{i}", None, (i,), (f"encoder.{i}.weight",), True, grad_enabled=False)
        for i in range(3)
    ]
    (finding,) = found(run(*weights, FED, operations=list(through(*off))[1:]))
    assert len(finding.sites) == 3
    assert "'encoder.0' ran without grad mode" in finding.message
    assert "torch.no_grad()" in finding.fix


def test_fires_once_for_each_of_two_stretches_without_grad_mode() -> None:
    other = ParameterInfo("other.weight", "other", optimizer_steps=3, aliases=("twin.weight",))
    first = Operation(1, "linear", "encoder", None, (), ("encoder.weight",), True, grad_enabled=False)
    between = Operation(2, "relu", "", None, (1,))
    second = Operation(3, "linear", "other", None, (2,), ("twin.weight",), True, grad_enabled=False)
    findings = found(run(STARVED, other, FED, operations=list(through(first, between, second))[1:]))
    assert [finding.sites for finding in findings] == [("encoder.weight",), ("other.weight",)]


@pytest.mark.parametrize(
    ("name", "word"), [("argmax", "no derivative"), ("data", "remove .data"), ("tensor", "keep the tensor")]
)
def test_fires_with_a_fix_for_the_kind_of_cut(name: str, word: str) -> None:
    (finding,) = found(run(operations=through(replace(DETACH, name=name))))
    assert word in finding.fix


def test_fires_where_values_leave_the_tensors_and_modules_tell_of_a_cut() -> None:
    away = replace(DETACH, module="")
    out = Operation(2, "numpy", "", Location("net.py", 9), inputs=(1,))
    operations = list(through(away, out, Operation(3, "relu")))
    (finding,) = found(run(operations=operations))
    assert "numpy after 'encoder' leaves the graph" in finding.message
    assert str(finding.location) == "net.py:9"
    reached = {"encoder": 1.0, "head": 1.0}
    assert not found(run(operations=operations, activation_gradient=reached))


def test_fires_without_a_trace_between_the_modules_that_gradients_tell_apart() -> None:
    (finding,) = found(run(complete=True))
    assert finding.message == "the graph is cut between 'encoder' and 'head': 'encoder.weight' receives no gradient"


def test_fires_without_a_trace_inside_of_a_container() -> None:
    inner = ParameterInfo("fc.weight", "fc", optimizer_steps=3)
    own = ParameterInfo("scale", "", optimizer_steps=3, contributions=3)
    (finding,) = found(
        run(inner, own, calls={"fc": Call.GRAD, "": Call.GRAD}, activation_gradient={"": 1.0}, complete=True)
    )
    assert "between 'fc' and '(root)'" in finding.message


def test_fires_without_a_trace_on_modules_that_ran_only_without_grad_mode() -> None:
    (finding,) = found(run(calls={"encoder": Call.NO_GRAD, "head": Call.GRAD}, complete=True))
    assert "'encoder' ran without grad mode" in finding.message


def test_fires_on_a_loss_without_a_graph() -> None:
    message = "element 0 of tensors does not require grad and does not have a grad_fn"
    failure = Failure(0, "backward", "", message, location=Location("train.py", 5))
    (finding,) = found(recording(failure=failure, activation_gradient={"fc": [None]}, steps=1))
    assert finding.message == "the loss has no graph, so backward() has nowhere to go"
    assert "the output of 'fc' had one" in finding.evidence
    (without,) = found(recording(failure=failure))
    assert "no module's output had one" in without.evidence


def test_asks_for_a_trace_while_the_run_goes_on_and_says_nothing_else() -> None:
    assert requests(run())
    assert not [result for result in DetachedTensor().analyze(run()) if isinstance(result, Finding)]
    assert not requests(run(operations=through(DETACH)))


def test_silent_on_a_module_that_never_ran() -> None:
    idle = ParameterInfo("expert.weight", "expert", optimizer_steps=3)
    calls = {"expert": Call.NONE, "head": Call.GRAD}
    assert not requests(run(idle, FED, calls=calls))
    assert not found(run(idle, FED, calls=calls, complete=True))


def test_silent_on_frozen_parameters() -> None:
    frozen = replace(STARVED, trainable=False)
    assert not found(run(frozen, FED, operations=through(DETACH)))


def test_silent_on_a_stop_gradient_branch_whose_parameters_the_other_branch_trains() -> None:
    shared = replace(STARVED, contributions=3)
    assert not found(run(shared, FED, operations=through(DETACH)))


def test_silent_on_the_generator_while_only_the_critic_has_stepped() -> None:
    generator = replace(STARVED, optimizer_steps=0)
    assert not found(run(generator, FED, operations=through(DETACH)))


def test_silent_on_a_codebook_that_is_updated_by_other_means() -> None:
    in_the_step = run(operations=through(DETACH), update={"encoder.weight": 1e-3})
    between_steps = run(operations=through(DETACH), parameter={"encoder.weight": [1.0, 1.1, 1.2, 1.3, 1.4]})
    untouched = run(operations=through(DETACH), parameter={"encoder.weight": 1.0}, update={"encoder.weight": 0.0})
    assert not found(in_the_step)
    assert not found(between_steps)
    assert found(untouched)


def test_silent_on_a_head_whose_result_is_not_used() -> None:
    aside = Operation(50, "linear", "encoder", None, (), ("encoder.weight",), True, True)
    logged = Operation(51, "item", "", None, (50,), (), True)
    operations = [aside, logged, *list(through())[1:]]
    calls = {"trunk": Call.GRAD} | CALLS
    assert not found(run(operations=operations, calls=calls, activation_gradient={"trunk": 1.0, "head": 1.0}))


def test_silent_on_a_first_module_whose_result_stays_unused() -> None:
    aside = Operation(0, "linear", "encoder", None, (), ("encoder.weight",), True, True)
    assert not found(run(operations=[aside, *list(through())[1:]]))


def test_silent_without_a_trace_when_an_earlier_module_received_a_gradient() -> None:
    calls = {"trunk": Call.GRAD} | CALLS
    assert not found(run(calls=calls, activation_gradient={"trunk": 1.0, "head": 1.0}, complete=True))


def test_silent_without_a_trace_on_a_branch_that_ran_with_and_without_grad_mode() -> None:
    calls = {"trunk": Call.GRAD, "encoder": Call.GRAD | Call.NO_GRAD, "head": Call.GRAD}
    assert not found(run(calls=calls, activation_gradient={"trunk": 1.0, "head": 1.0}, complete=True))


def test_silent_without_a_trace_on_a_parameter_of_a_module_that_works() -> None:
    assert not found(run(activation_gradient={"encoder": 1.0, "head": 1.0}, complete=True))


def test_silent_before_the_first_step_is_over() -> None:
    fresh = (replace(STARVED, optimizer_steps=0), replace(FED, optimizer_steps=0))
    assert not requests(run(*fresh, steps=1, ends={0: StepEnd.OPEN}))
    assert requests(run(*fresh, steps=1, ends={0: StepEnd.MANUAL}))


def test_silent_when_no_parameter_at_all_received_a_gradient() -> None:
    assert not requests(run(STARVED, replace(FED, contributions=0)))
