from dataclasses import replace
from typing import Any

import pytest

from gradscope.analyzer import Request
from gradscope.analyzers.detached_tensor import DetachedTensor
from gradscope.findings import Finding, Severity
from gradscope.records import Call, ParameterInfo, Recording, StepEnd
from gradscope.testing import recording
from gradscope.traces import Failure, Location, Operand, Operation

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


def op(index: int, name: str, *operands: int | str | Operand, graph: bool = True, **fields: Any) -> Operation:
    """An operation on the results of others, which have a graph, and on parameters, all given in short."""
    given = {
        int: lambda index: Operand((5, 8), index, has_graph=True),
        str: lambda name: Operand((8, 8), None, name, True),
    }
    made = tuple(each if isinstance(each, Operand) else given[type(each)](each) for each in operands)
    return Operation(index, name, operands=made, shapes=((5, 8),), has_graph=graph, **fields)


def cold(index: int) -> Operand:
    """The result of an operation, without a graph."""
    return Operand((5, 8), index)


def through(*middle: Operation, end: Operand | None = None) -> list[Operation]:
    """encoder, then the operations given (indices from 1 on), then head and loss."""
    last = (end or cold(middle[-1].index),) if middle else ()
    return [
        op(0, "linear", "encoder.weight", module="encoder"),
        *middle,
        op(90, "linear", *last, "head.weight", module="head"),
        op(91, "mse_loss", 90, is_loss=True),
    ]


DETACH = op(1, "detach", 0, graph=False, module="encoder", location=Location("net.py", 7))


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
    stem = op(-1, "linear", "stem.weight", module="stem")
    encoder = op(0, "linear", -1, "encoder.weight", module="encoder")
    operations = [stem, encoder, replace(DETACH, module=""), *through(DETACH)[2:]]
    (finding,) = found(run(first, STARVED, FED, operations=operations, calls={"stem": Call.GRAD} | CALLS))
    assert "after 'encoder'" in finding.message
    assert finding.sites == ("stem.weight", "encoder.weight")


def test_fires_once_for_each_cut_with_its_own_parameters() -> None:
    middle = ParameterInfo("middle.weight", "middle", optimizer_steps=3)
    use = op(2, "linear", cold(1), "middle.weight", module="middle")
    second = op(3, "detach", 2, graph=False, module="middle")
    findings = found(run(STARVED, middle, FED, operations=through(DETACH, use, second)))
    assert [finding.sites for finding in findings] == [("encoder.weight",), ("middle.weight",)]


def test_fires_once_for_a_whole_stretch_without_grad_mode() -> None:
    weights = [ParameterInfo(f"encoder.{i}.weight", f"encoder.{i}", optimizer_steps=3) for i in range(3)]
    off = [
        op(i + 1, "linear", cold(i), f"encoder.{i}.weight", graph=False, module=f"encoder.{i}", grad_enabled=False)
        for i in range(3)
    ]
    (finding,) = found(run(*weights, FED, operations=through(*off)[1:]))
    assert len(finding.sites) == 3
    assert "'encoder.0' ran without grad mode" in finding.message
    assert "torch.no_grad()" in finding.fix


def test_fires_once_for_each_of_two_stretches_without_grad_mode() -> None:
    other = ParameterInfo("other.weight", "other", optimizer_steps=3, aliases=("twin.weight",))
    first = op(1, "linear", "encoder.weight", graph=False, module="encoder", grad_enabled=False)
    between = op(2, "relu", cold(1), graph=False)
    second = op(3, "linear", cold(2), "twin.weight", graph=False, module="other", grad_enabled=False)
    findings = found(run(STARVED, other, FED, operations=through(first, between, second)[1:]))
    assert [finding.sites for finding in findings] == [("encoder.weight",), ("other.weight",)]


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("data", ".data in module 'encoder' cuts the graph", "remove .data"),
        ("tensor", "torch.tensor() in module 'encoder' cuts the graph", "keep the tensor"),
        ("item", ".item() in module 'encoder' cuts the graph", "keep the tensor"),
        ("Parameter", "nn.Parameter() after 'encoder' cuts the graph", "keep the tensor"),
    ],
)
def test_fires_with_a_name_and_a_fix_for_the_kind_of_cut(name: str, message: str, fix: str) -> None:
    (finding,) = found(run(operations=through(replace(DETACH, name=name))))
    assert finding.message.startswith(message)
    assert fix in finding.fix


@pytest.mark.parametrize("name", ["Parameter", "tensor"])
def test_fires_on_a_copy_that_has_a_graph_of_its_own(name: str) -> None:
    copy = replace(DETACH, name=name, has_graph=True)
    (finding,) = found(run(operations=through(copy, end=Operand((5, 8), 1, has_graph=True))))
    assert "cuts the graph" in finding.message


def test_fires_and_calls_a_copy_what_the_user_called_it() -> None:
    place = Location("net.py", 7, source="twin = deepcopy(self.scale)", column=7, end=27)
    (finding,) = found(run(operations=through(replace(DETACH, name="data", location=place))))
    assert finding.message.startswith("deepcopy() in module 'encoder' cuts the graph")
    assert "deepcopy" in finding.fix


def test_fires_on_the_way_out_of_torch_rather_than_on_the_detach_before_it() -> None:
    out = [op(2, "cpu", cold(1), graph=False), op(3, "numpy", cold(2), graph=False, location=Location("net.py", 8))]
    (finding,) = found(run(operations=through(DETACH, *out)))
    assert finding.message.startswith(".numpy() after 'encoder' cuts the graph")
    assert str(finding.location) == "net.py:8"
    kept = op(4, "relu", cold(1), graph=False)
    both = through(DETACH, *out, kept, op(5, "add", cold(3), cold(4), graph=False))
    (finding,) = found(run(operations=both))
    assert finding.message.startswith(".detach()")


def test_fires_on_a_write_without_grad_mode() -> None:
    write = op(1, "__setitem__", Operand((5, 8)), 0, graph=False, grad_enabled=False)
    (finding,) = found(run(operations=through(write)))
    assert "an assignment to elements after 'encoder' ran without grad mode" in finding.message


def test_fires_on_the_last_cut_of_a_way_and_not_on_what_only_scales() -> None:
    scale = op(1, "detach", 0, graph=False, location=Location("net.py", 3))
    divided = op(2, "div", 0, cold(1))
    cut = op(3, "detach", 2, graph=False, location=Location("net.py", 4))
    (finding,) = found(run(operations=through(scale, divided, cut)))
    assert str(finding.location) == "net.py:4"


def test_fires_on_the_values_and_not_on_the_mask_beside_them() -> None:
    mask = op(1, "gt", 0, graph=False, differentiable=False)
    values = op(2, "detach", 0, graph=False, location=Location("net.py", 4))
    (finding,) = found(run(operations=through(mask, values, op(3, "mul", cold(1), cold(2), graph=False))))
    assert str(finding.location) == "net.py:4"


def test_fires_once_for_one_line_that_cuts_many_times() -> None:
    blocks = [ParameterInfo(f"blocks.{i}.weight", f"blocks.{i}", optimizer_steps=3) for i in range(3)]
    place = Location("net.py", 7)
    operations = [
        operation
        for i in range(3)
        for operation in (
            op(2 * i, "linear", cold(2 * i - 1), f"blocks.{i}.weight", module=f"blocks.{i}"),
            op(2 * i + 1, "detach", 2 * i, graph=False, module=f"blocks.{i}", location=place),
        )
    ]
    last = [op(90, "linear", cold(5), "head.weight"), op(91, "mse_loss", 90, is_loss=True)]
    (finding,) = found(run(*blocks, FED, operations=[*operations, *last]))
    assert len(finding.sites) == 3
    off = [replace(each, grad_enabled=False, has_graph=False, location=place) for each in operations]
    between = op(80, "relu", cold(1), graph=False)
    (finding,) = found(run(*blocks, FED, operations=[*off[:2], between, *off[2:], *last]))
    assert len(finding.sites) == 3


CHECKPOINT: dict[str, Any] = {"function": "CheckpointFunction", "grad_enabled": False, "graph": False}


def test_fires_on_a_reentrant_checkpoint_without_an_input_that_requires_grad() -> None:
    inside = op(1, "linear", Operand((5, 8)), "encoder.weight", module="encoder", **CHECKPOINT)
    (finding,) = found(run(operations=through(inside)[1:]))
    assert "checkpoint(use_reentrant=True) around module 'encoder' cuts the graph" in finding.message
    assert "use_reentrant=False" in finding.fix


def test_fires_behind_a_reentrant_checkpoint_that_works() -> None:
    inside = [op(1, "linear", 0, "body.weight", **CHECKPOINT), op(2, "relu", cold(1), **CHECKPOINT)]
    cut = op(3, "detach", 2, graph=False, location=Location("net.py", 9))
    body = ParameterInfo("body.weight", "body", optimizer_steps=3)
    (finding,) = found(run(STARVED, body, FED, operations=through(*inside, cut)))
    assert (str(finding.location), finding.sites) == ("net.py:9", ("encoder.weight", "body.weight"))


def test_fires_on_the_cut_before_the_loss_that_speaks_for_the_parameters() -> None:
    critic = [
        op(1, "detach", 0, graph=False, location=Location("gan.py", 3)),
        op(2, "linear", cold(1), "head.weight", module="head"),
        op(3, "mean", 2, is_loss=True),
    ]
    generator = [
        op(4, "detach", 0, graph=False, step=1, location=Location("gan.py", 8)),
        op(5, "linear", cold(4), "head.weight", step=1, module="head"),
        op(6, "mean", 5, step=1, is_loss=True),
    ]
    operations = [op(0, "linear", "encoder.weight", module="encoder"), *critic, *generator]
    stepped = {0: ["head.weight"], 1: ["encoder.weight"]}
    (finding,) = found(run(operations=operations, stepped=stepped))
    assert str(finding.location) == "gan.py:8"
    assert requests(run(operations=operations[:4], stepped={0: ["head.weight"]}))


def away(*entry: Operation, **options: Any) -> Recording:
    """The values of the encoder leave torch at index 2."""
    out = op(2, "numpy", cold(1), graph=False, location=Location("net.py", 9))
    return run(operations=through(replace(DETACH, module=""), out, *entry), complete=True, **options)


def test_fires_where_values_leave_torch_and_seem_to_come_back() -> None:
    entry = Operation(3, "tensor", location=Location("net.py", 11))
    (finding,) = found(away(entry))
    assert ".numpy() after 'encoder' and seem to come back at torch.tensor() at net.py:11" in finding.message
    assert (str(finding.location), finding.severity) == ("net.py:9", Severity.WARNING)
    stranger = op(3, "relu", Operand((5, 8)), graph=False, location=Location("net.py", 12))
    (finding,) = found(away(stranger))
    assert "come back at relu at net.py:12" in finding.message


def test_what_comes_back_may_look_like_the_input_but_is_another_tensor() -> None:
    def with_input(stranger: int) -> Recording:
        given = Operand((5, 8), stranger=1)
        entry = op(3, "relu", Operand((5, 8), stranger=stranger), graph=False, location=Location("net.py", 12))
        made = away(entry)
        first = replace(made.operations[0], operands=(given, *made.operations[0].operands))
        return replace(made, operations=(first, *made.operations[1:]))

    (finding,) = found(with_input(2))
    assert "come back at relu at net.py:12" in finding.message
    assert not found(with_input(1))


def test_silent_where_values_leave_torch_and_a_gradient_arrives_before_they_do() -> None:
    reached = {"encoder": 1.0, "head": 1.0}
    assert not found(away(Operation(3, "tensor"), activation_gradient=reached))


def test_silent_about_what_is_logged_beside_a_cut() -> None:
    logged = op(2, "numpy", cold(1), graph=False)
    (finding,) = found(run(operations=through(DETACH, logged, op(3, "add", cold(1), Operand((5, 8)), graph=False))))
    assert "cuts the graph" in finding.message


def test_silent_where_values_leave_torch_and_only_the_targets_come_in() -> None:
    out = op(2, "numpy", cold(1), graph=False)
    target = Operation(60, "tensor")
    head, loss = through()[1:]
    operations = [*through(DETACH, out)[:3], head, target, replace(loss, operands=(*loss.operands, cold(60)))]
    assert not found(run(operations=operations, complete=True))


def test_silent_where_values_leave_torch_and_the_batch_was_there_before() -> None:
    first = op(0, "linear", Operand((5, 8)), "encoder.weight", module="encoder")
    out = op(2, "numpy", cold(1), graph=False)
    operations = [first, DETACH, out, op(3, "relu", Operand((5, 8)), graph=False), *through(op(3, "relu"))[2:]]
    assert not found(run(operations=operations, complete=True))


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
    assert requests(run(operations=through(DETACH), stepped={0: ["head.weight"]}))
    assert requests(run(operations=through(DETACH)[2:]))


def test_silent_until_two_steps_were_observed() -> None:
    early = run(operations=through(DETACH), steps=1)
    assert not found(early)
    assert found(replace(early, complete=True))


def test_fires_by_what_modules_tell_where_the_trace_does_not_speak() -> None:
    (finding,) = found(run(operations=through(DETACH), stepped={0: ["head.weight"]}, complete=True))
    assert "between 'encoder' and 'head'" in finding.message
    (finding,) = found(run(operations=through(DETACH)[2:], complete=True))
    assert "between 'encoder' and 'head'" in finding.message


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


def test_silent_on_what_the_program_writes_itself() -> None:
    written = op(70, "copy_", Operand((8, 8), None, "encoder.weight", True), graph=False, written="encoder.weight")
    assert not found(run(operations=[*through(DETACH), written]))


def test_silent_on_a_head_whose_result_is_not_used() -> None:
    aside = op(50, "linear", "encoder.weight", module="encoder")
    operations = [aside, op(51, "item", 50, graph=False), *through()[1:]]
    calls = {"trunk": Call.GRAD} | CALLS
    logged = run(operations=operations, calls=calls, activation_gradient={"trunk": 1.0, "head": 1.0}, complete=True)
    assert not found(logged)


def test_silent_on_a_first_module_whose_result_stays_unused() -> None:
    aside = op(0, "linear", "encoder.weight", module="encoder")
    assert not found(run(operations=[aside, *through()[1:]], complete=True))


def test_silent_on_an_operation_that_a_gradient_passes_beside_the_cut() -> None:
    both = op(2, "add", 0, cold(1))
    assert not found(run(operations=through(DETACH, both, end=Operand((5, 8), 2, has_graph=True)), complete=True))


def test_silent_on_what_has_no_derivative_which_is_another_disease() -> None:
    argmax = replace(DETACH, name="argmax", differentiable=False)
    assert not found(run(operations=through(argmax)))
    assert not requests(run(operations=through(argmax)))


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
