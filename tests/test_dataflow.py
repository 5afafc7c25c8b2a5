from dataclasses import replace
from typing import Any

import pytest

from gradscope.dataflow import Flow, expression, flow_of, read, strangers
from gradscope.traces import Location, Operand, Operation


def op(index: int, name: str, *operands: int | str | Operand, graph: bool = True, **fields: Any) -> Operation:
    """An operation on the results of others, which have a graph, and on parameters, all given in short."""
    given = {int: lambda index: Operand((5,), index, has_graph=True), str: lambda name: Operand((5,), None, name, True)}
    made = tuple(each if isinstance(each, Operand) else given[type(each)](each) for each in operands)
    return Operation(index, name, operands=made, shapes=((5,),), has_graph=graph, **fields)


def cold(index: int) -> Operand:
    """The result of an operation, without a graph."""
    return Operand((5,), index)


LINEAR = op(0, "linear", "weight")
DETACH = op(1, "detach", 0, graph=False)
HEAD = op(2, "linear", cold(1), "head")
LOSS = op(3, "mean", 2, is_loss=True)
ASIDE = op(4, "relu", 0)
CUT = Flow([LINEAR, DETACH, HEAD, LOSS, ASIDE])

INSIDE: dict[str, Any] = {"function": "CheckpointFunction", "grad_enabled": False, "graph": False}
OFF: dict[str, Any] = {"grad_enabled": False, "graph": False}


def severed(*operations: Operation, name: str = "weight") -> list[tuple[str, bool]]:
    flow = Flow(operations)
    return [(operation.name, indices) for operation, indices in flow.severed([name], flow.losses)]


def flattened(*operations: Operation) -> list[str]:
    flow = Flow(operations)
    return [operation.name for operation in flow.flattened(["weight"], flow.losses)]


def test_values_flow_by_a_graph_or_not() -> None:
    assert CUT.losses == (LOSS,)
    assert CUT.toward_loss == {0, 1, 2, 3}
    assert CUT.upstream([HEAD]) == {0, 1, 2}
    assert CUT.upstream([LOSS], around={1}) == {2, 3}
    assert {each.index for each in CUT.downstream([DETACH])} == {1, 2, 3}
    assert CUT.consumers == {0: [DETACH, ASIDE], 1: [HEAD], 2: [LOSS]}
    assert [operation for _, operation in CUT.uses["head"]] == [HEAD]


def test_one_that_uses_a_result_twice_is_one_consumer() -> None:
    square = op(1, "mul", 0, 0)
    assert Flow([LINEAR, square]).consumers == {0: [square]}


def test_gradients_flow_along_the_graph_only() -> None:
    assert CUT.connected(["weight"]) == {0, 4}
    assert CUT.connected(["head"]) == {2, 3}


@pytest.mark.parametrize("name", ["tensor", "Parameter", "__deepcopy__"])
def test_no_gradient_flows_through_a_copy_with_a_graph_of_its_own(name: str) -> None:
    assert severed(LINEAR, op(1, name, 0), op(2, "mean", 1, is_loss=True)) == [(name, False)]


def test_a_shape_is_no_value() -> None:
    assert read(op(1, "new_zeros", 0)) == ()
    assert read(op(1, "mul", 0))
    noise = [op(1, "new_empty", 0, graph=False), op(2, "linear", cold(1), "head"), op(3, "mean", 2, is_loss=True)]
    assert severed(LINEAR, *noise) == []


def test_a_cut_is_where_values_leave_the_graph_on_the_way_to_a_loss() -> None:
    assert [(each.name, indices) for each, indices in CUT.severed(["weight"], CUT.losses)] == [("detach", False)]
    assert CUT.severed(["head"], CUT.losses) == []
    assert CUT.severed(["weight"], []) == []
    assert CUT.severed(["unknown"], CUT.losses) == []


def test_indices_leave_the_graph_beside_the_result() -> None:
    loss = op(3, "mean", 2, is_loss=True)
    topk = replace(op(1, "topk", 0), shapes=((4,), (4,)))
    assert severed(LINEAR, topk, op(2, "embedding", cold(1), "head"), loss) == [("topk", True)]
    assert severed(LINEAR, topk, op(2, "gather", 0, cold(1)), loss) == []


def test_a_way_that_leads_back_into_the_graph_is_no_cut() -> None:
    scaled = [op(1, "item", 0, graph=False), op(2, "div", 0, cold(1))]
    end = [op(3, "argmax", 2, graph=False), op(4, "mul", cold(3), "head"), op(5, "mean", 4, is_loss=True)]
    assert severed(LINEAR, *scaled, *end) == [("argmax", False)]
    beside = [op(1, "item", 0, graph=False), op(3, "argmax", 0, graph=False), op(4, "mul", cold(3), cold(1), "head")]
    assert severed(LINEAR, *beside, end[-1]) == [("item", False), ("argmax", False)]


def test_a_parameter_that_was_frozen_when_it_was_used_is_not_cut_off() -> None:
    frozen = op(0, "linear", Operand((5,), None, "weight"), graph=False)
    assert severed(frozen, op(1, "mul", cold(0), "head"), op(2, "mean", 1, is_loss=True)) == []


def test_backward_runs_a_reentrant_checkpoint_again_with_a_graph() -> None:
    first, second = op(1, "linear", 0, "inner", **INSIDE), op(2, "relu", cold(1), **INSIDE)
    working = Flow([LINEAR, first, second, op(3, "mean", 2, is_loss=True)])
    assert working.recomputed == {1, 2}
    assert working.connected(["weight"]) == {0, 1, 2, 3}
    assert working.connected(["inner"]) == {1, 2, 3}
    broken = Flow([first, second, op(3, "linear", cold(2), "head"), op(4, "mean", 3, is_loss=True)])
    assert broken.recomputed == set()
    assert broken.severed(["inner"], broken.losses) == [(first, False)]


def test_a_checkpoint_may_give_the_loss_itself() -> None:
    assert Flow([LINEAR, op(1, "mse_loss", 0, is_loss=True, **INSIDE)]).recomputed == {1}


def test_a_derivative_of_zero_counts_where_no_way_goes_around_it() -> None:
    loss = op(9, "mean", 8, is_loss=True)
    rounds, floors = op(1, "round", 0), op(2, "floor", 0)
    assert flattened(LINEAR, rounds, op(8, "relu", 1), loss) == ["round"]
    assert flattened(LINEAR, rounds, floors, op(8, "add", 1, 2), loss) == ["round", "floor"]
    assert flattened(LINEAR, rounds, op(8, "mul", 0, 1), loss) == []
    assert flattened(LINEAR, rounds, op(8, "mul", cold(1), "head"), loss) == []
    assert flattened(LINEAR, rounds, op(8, "mul", "head"), loss) == []
    assert flattened(LINEAR, rounds, op(2, "floor", 1), op(8, "relu", 2), loss) == ["round"]


def test_operations_without_grad_mode_come_in_stretches() -> None:
    operations = [op(0, "a", **OFF), op(1, "b", **OFF), op(2, "c"), op(3, "d", **OFF), op(4, "e", step=1, **OFF)]
    assert Flow(operations).stretches == {0: 0, 1: 0, 3: 3, 4: 4}


def test_values_leave_torch_after_a_detach() -> None:
    cpu, numpy = op(2, "cpu", cold(1), graph=False), op(3, "numpy", cold(2), graph=False)
    end = op(4, "mul", cold(3), "head", is_loss=True)
    assert Flow([LINEAR, DETACH, cpu, numpy, end]).exit(DETACH) == numpy
    relu = op(3, "relu", cold(2), graph=False)
    assert Flow([LINEAR, DETACH, cpu, relu, end]).exit(DETACH) == DETACH
    tanh = op(1, "tanh", 0, **OFF)
    assert Flow([LINEAR, tanh, cpu, numpy, end]).exit(tanh) == tanh


def test_a_sample_is_drawn_in_one_line() -> None:
    line, other = Location("net.py", 1), Location("net.py", 2)
    expand, normal = op(1, "expand", 0, location=line, **OFF), op(2, "normal", cold(1), location=line, **OFF)
    elsewhere = op(2, "normal", cold(1), location=other, **OFF)
    assert Flow([LINEAR, expand, normal]).sample(expand) == normal
    assert Flow([LINEAR, expand, elsewhere]).sample(expand) is None
    assert Flow([LINEAR, op(1, "bernoulli", 0)]).sample(op(1, "bernoulli", 0))
    inside = op(1, "linear", 0, location=line, **INSIDE)
    assert Flow([inside, normal]).sample(inside) is None


def test_an_origin_is_seen_through_views() -> None:
    flow = Flow([LINEAR, op(1, "view", 0), op(2, "to", 1), op(3, "view", Operand((5,)))])
    assert flow.origin(Operand((5,), 2)) == LINEAR
    assert flow.origin(Operand((5,), 0)) == LINEAR
    assert flow.origin(Operand((5,), 3)) is None
    assert flow.origin(Operand((5,), 99)) is None


def test_the_expression_is_what_the_user_wrote() -> None:
    place = Location("net.py", 1, source="y = x.sample() + 1", column=4, end=14)
    assert expression(op(0, "mul", location=place)) == "x.sample()"
    assert expression(op(0, "mul", location=Location("net.py", 1, source="y = x * 2"))) == "y = x * 2"
    assert expression(op(0, "mul")) == ""


def test_strangers_are_tensors_that_nothing_has_made() -> None:
    assert strangers(op(1, "mul", 0, "weight", Operand((3, 2)), Operand(()))) == {((3, 2), 0)}


def test_the_flow_of_a_trace_is_computed_once() -> None:
    operations = (LINEAR, DETACH)
    assert flow_of(operations) is flow_of(operations)
    assert flow_of(()) is not flow_of(operations)
