from dataclasses import replace
from typing import Any

import pytest

from gradscope.analyzer import Request
from gradscope.analyzers.detached_tensor import DetachedTensor
from gradscope.analyzers.non_differentiable_op import NonDifferentiableOp
from gradscope.findings import Finding
from gradscope.records import ParameterInfo, Recording
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation

FED = ParameterInfo("head.weight", "head", optimizer_steps=5, contributions=5)
STARVED = ParameterInfo("encoder.weight", "encoder", optimizer_steps=5)
ZERO = replace(STARVED, contributions=5)
ZEROS: dict[str, Any] = {"parameter_gradient": {"encoder.weight": 0.0, "head.weight": 1.0}}


def op(index: int, name: str, *operands: int | str | Operand, graph: bool = True, **fields: Any) -> Operation:
    """An operation on the results of others, which have a graph, and on parameters, all given in short."""
    given = {int: lambda index: Operand((5,), index, has_graph=True), str: lambda name: Operand((5,), None, name, True)}
    made = tuple(each if isinstance(each, Operand) else given[type(each)](each) for each in operands)
    return Operation(index, name, operands=made, shapes=((5,),), has_graph=graph, **fields)


def cold(index: int) -> Operand:
    """The result of an operation, without a graph."""
    return Operand((5,), index)


def hard(index: int, name: str, *operands: int | str | Operand, **fields: Any) -> Operation:
    """An operation whose result holds integers or booleans."""
    return op(index, name, *operands, graph=False, differentiable=False, **fields)


def through(*middle: Operation, end: Operand | int) -> list[Operation]:
    """encoder, then the operations given, then head, on the result of one of them, and loss."""
    encoder = op(0, "linear", "encoder.weight", module="encoder")
    return [encoder, *middle, op(90, "linear", end, "head.weight", module="head"), op(91, "mse_loss", 90, is_loss=True)]


def run(operations: list[Operation], *parameters: ParameterInfo, **options: Any) -> Recording:
    given = {"activation": {"encoder": 1.0, "head": 1.0}, "activation_gradient": {"head": 1.0}} | options
    return recording(parameters=parameters or (STARVED, FED), operations=operations, **given)


def found(made: Recording) -> list[Finding]:
    results = list(NonDifferentiableOp().analyze(made))
    assert not any(isinstance(result, Request) for result in results)
    return [result for result in results if isinstance(result, Finding)]


def zero(operations: list[Operation], **options: Any) -> Recording:
    return run(operations, ZERO, FED, **(ZEROS | options))


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("argmax", "softmax"),
        ("gt", "sigmoid"),
        ("long", "keep floating point"),
        ("bucketize", "soft assignment"),
        ("multinomial", "rsample()"),
        ("hash_tensor", "hash_tensor has no derivative"),
    ],
)
def test_fires_on_a_result_that_cannot_have_a_gradient(name: str, fix: str) -> None:
    made = run(through(hard(1, name, 0, location=Location("net.py", 7)), end=cold(1)))
    (finding,) = found(made)
    assert finding.message == f"{name} after 'encoder' cuts the graph: 'encoder.weight' receives no gradient"
    assert (finding.sites, str(finding.location)) == (("encoder.weight",), "net.py:7")
    assert fix in finding.fix
    assert not list(DetachedTensor().analyze(made))


def test_fires_on_a_choice_even_where_grad_mode_was_off() -> None:
    (finding,) = found(run(through(hard(1, "argmax", 0, grad_enabled=False), end=cold(1))))
    assert finding.message.startswith("argmax")


def test_fires_on_indices_that_are_used_without_their_values() -> None:
    topk, scatter = replace(op(1, "topk", 0), shapes=((4,), (4,))), op(2, "scatter", cold(1), graph=False)
    (finding,) = found(run(through(topk, scatter, end=cold(2))))
    assert finding.message.startswith("the indices of topk after 'encoder' cut the graph")
    assert "integers" in finding.evidence
    assert "values" in finding.fix
    embedded = through(topk, op(3, "embedding", cold(1), "head.weight"), end=3)
    (finding,) = found(run(embedded))
    assert finding.message.startswith("the indices of topk")


def test_fires_on_indices_into_what_has_a_graph_of_the_same_parameter_when_all_is_cut_later() -> None:
    topk, gather, cut = op(1, "topk", 0), op(2, "gather", 0, cold(1)), hard(3, "argmax", 2)
    (finding,) = found(run(through(topk, gather, cut, end=cold(3))))
    assert finding.message.startswith("argmax")


def test_fires_on_a_sample_that_a_distribution_draws_without_grad_mode() -> None:
    place = Location("net.py", 7, source="z = Normal(x, 1).sample()", column=4, end=25)
    off: dict[str, Any] = {"graph": False, "grad_enabled": False}
    expand = op(1, "expand", 0, location=place, **off)
    operations = through(expand, op(2, "normal", cold(1), location=place, **off), end=cold(2))
    (finding,) = found(run(operations))
    assert finding.message.startswith("sample() after 'encoder' cuts the graph")
    assert "rsample()" in finding.fix
    (uniform,) = found(run(through(expand, op(2, "add", cold(1), location=place, **off), end=cold(2))))
    assert uniform.message.startswith("sample()")
    bare = replace(place, source="")
    (normal,) = found(run([replace(each, location=bare) for each in operations]))
    assert normal.message.startswith("normal")


def test_silent_on_noise_of_another_line_in_a_stretch_without_grad_mode() -> None:
    off: dict[str, Any] = {"graph": False, "grad_enabled": False}
    scaled = op(1, "mul", 0, location=Location("net.py", 7), **off)
    noisy = op(2, "normal", cold(1), location=Location("net.py", 8), **off)
    made = run(through(scaled, noisy, end=cold(2)))
    assert not found(made)
    assert len(list(DetachedTensor().analyze(made))) == 1


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("round", "x + (round(x) - x).detach()"),
        ("sign_", "x + (sign(x) - x).detach()"),
        ("floor_divide", "divide without rounding"),
        ("div(rounding_mode)", "divide without rounding"),
        ("gt_", "sigmoid"),
        ("bernoulli", "rsample()"),
    ],
)
def test_fires_on_a_derivative_of_zero_that_every_gradient_passes(name: str, fix: str) -> None:
    (finding,) = found(zero(through(op(1, name, 0), op(2, "mul", 1), end=2)))
    assert finding.message == f"{name} after 'encoder' has a derivative of zero: 'encoder.weight' receives only zeros"
    assert "exactly 0 in all 5 observed steps" in finding.evidence
    assert fix in finding.fix


def test_fires_on_two_roundings_side_by_side_and_names_the_first() -> None:
    first, second = op(1, "round", 0, module="quantizer"), op(2, "floor", 0)
    (finding,) = found(zero(through(first, second, op(3, "add", 1, 2), end=3)))
    assert finding.message.startswith("round in module 'quantizer' has a derivative of zero")


def test_fires_on_a_parameter_that_is_rounded_itself() -> None:
    (finding,) = found(zero([op(0, "sign", "encoder.weight"), *through(end=0)[1:]]))
    assert finding.message.startswith("sign")


def test_fires_once_for_a_line_that_rounds_in_every_layer() -> None:
    place = Location("net.py", 7)
    layers = [ParameterInfo(f"{i}.weight", f"{i}", optimizer_steps=5, contributions=5) for i in range(3)]
    operations = [
        operation
        for i in range(3)
        for operation in (op(2 * i, "linear", 2 * i - 1, f"{i}.weight"), op(2 * i + 1, "round", 2 * i, location=place))
    ]
    gradients = {f"{i}.weight": 0.0 for i in range(3)} | {"head.weight": 1.0}
    made = recording(
        parameters=[*layers, FED], operations=[*operations, *through(end=5)[1:]], parameter_gradient=gradients
    )
    (finding,) = found(made)
    assert len(finding.sites) == 3


def test_fires_since_the_first_step_in_which_the_gradient_was_measured() -> None:
    late = {"parameter_gradient": {"encoder.weight": [None, None, 0.0, None, 0.0], "head.weight": 1.0}}
    (finding,) = found(zero(through(op(1, "round", 0), end=1), **late))
    assert finding.step == 2
    assert "all 2 observed steps" in finding.evidence
    (finding,) = found(zero(through(op(1, "round", 0), end=1), steps=1, complete=True))
    assert "in the observed step," in finding.evidence


def test_silent_where_a_gradient_was_not_zero_or_not_finite_or_never_measured() -> None:
    rounded = through(op(1, "round", 0), end=1)
    for values in ([0.0, 0.0, 1e-9, 0.0, 0.0], [0.0, 0.0, float("nan"), 0.0, 0.0], [None] * 5):
        assert not found(zero(rounded, parameter_gradient={"encoder.weight": values}))
    assert not found(zero(rounded, parameter_gradient={}))
    assert not found(zero(rounded, steps=1))


def test_silent_on_zeros_that_no_such_operation_explains() -> None:
    up = through(op(1, "linear", 0, "up.weight"), end=1)  # LoRA, whose B is zero
    assert not found(zero(up))


def test_silent_on_straight_through_estimators() -> None:
    rounded, less = op(1, "round", 0), op(2, "sub", 1, 0)
    estimator = through(rounded, less, op(3, "detach", 2, graph=False), op(4, "add", 0, cold(3)), end=4)
    assert not found(zero(estimator))
    assert not found(zero(through(op(1, "Round", 0, function="Round"), end=1)))
    assert not found(zero(through(op(1, "fake_quantize_per_tensor_affine", 0), end=1)))
    hard_gumbel = [hard(1, "argmax", 0), op(2, "sub", cold(1), 0), op(3, "detach", 2, graph=False)]
    assert not found(run(through(*hard_gumbel, op(4, "add", 0, cold(3)), end=4), complete=True))


def test_silent_on_a_rounded_factor_of_what_carries_the_gradient() -> None:
    assert not found(zero(through(op(1, "round", 0), op(2, "mul", 0, 1), end=2)))


def test_silent_on_a_rounding_that_another_loss_goes_around() -> None:
    operations = [*through(op(1, "round", 0), end=1), op(92, "norm", "encoder.weight", is_loss=True)]
    assert not found(zero(operations))


def test_silent_on_a_choice_whose_scores_carry_a_gradient() -> None:
    expert = op(3, "linear", Operand((5,)), "expert.weight")
    gate = [op(1, "topk", 0), expert, op(4, "index_select", 3, cold(1)), op(5, "mul", 4, 1)]
    assert not found(run(through(*gate, end=5), complete=True))


def test_silent_on_a_policy_gradient_and_on_masks() -> None:
    policy = [hard(1, "multinomial", 0), op(2, "gather", 0, cold(1))]
    assert not found(run(through(*policy, end=2), complete=True))
    mask = [hard(1, "gt", 0), op(2, "where", cold(1), 0)]
    assert not found(run(through(*mask, end=2), complete=True))


def test_silent_on_a_metric_that_does_not_flow_into_the_loss() -> None:
    metric = [hard(60, "argmax", 0), hard(61, "eq", cold(60)), op(62, "item", cold(61), graph=False)]
    assert not found(run([*through(end=Operand((5,))), *metric], complete=True))


def test_silent_on_a_cut_that_is_not_of_this_kind() -> None:
    assert not found(run(through(op(1, "detach", 0, graph=False), end=cold(1))))


def test_silent_on_a_loss_that_does_not_speak_for_the_parameters() -> None:
    rounded = through(op(1, "round", 0), end=1)
    other = zero(rounded, stepped={0: ["head.weight"]})
    assert not [result for result in NonDifferentiableOp().analyze(other) if isinstance(result, Finding)]
    assert [result for result in NonDifferentiableOp().analyze(other) if isinstance(result, Request)]
    assert not found(replace(other, complete=True))
    assert found(replace(other, stepped={0: frozenset({"encoder.weight"})}))


def test_silent_on_what_the_program_writes_itself_and_on_what_no_optimizer_has_stepped() -> None:
    rounded = through(op(1, "round", 0), end=1)
    assert not found(zero([*rounded, op(95, "copy_", graph=False, written="encoder.weight")]))
    assert not found(run(rounded, replace(ZERO, optimizer_steps=0), FED, **ZEROS))
    assert not found(run(rounded, replace(ZERO, trainable=False), FED, **ZEROS))
    assert not found(run(rounded, STARVED, FED, **ZEROS))
