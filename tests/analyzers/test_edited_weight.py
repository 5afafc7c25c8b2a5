from dataclasses import replace

from gradscope.analyzers.edited_weight import EditedWeight
from gradscope.findings import Finding
from gradscope.records import ParameterInfo
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation

LINE = Location("train.py", 9)
STEPPED = ParameterInfo("fc.weight", "fc", optimizer_steps=3, contributions=3)


def use(index: int, *sources: int, **fields: object) -> Operation:
    operands = (Operand((4,), None, "fc.weight", True), *(Operand((4,), each, "", True) for each in sources))
    return Operation(index, "linear", operands=operands, has_graph=True, **fields)  # type: ignore[arg-type]


def loss(index: int, *sources: int, backward: int) -> Operation:
    operands = tuple(Operand((4,), each, "", True) for each in sources)
    return Operation(index, "mse_loss", operands=operands, has_graph=True, is_loss=True, backward=backward)


def edit(index: int, path: str = "fc.weight", **fields: object) -> Operation:
    return Operation(index, "mul_", location=LINE, written=path, **fields)  # type: ignore[arg-type]


def found(*operations: Operation, parameter: ParameterInfo = STEPPED) -> list[Finding]:
    return list(EditedWeight().analyze(recording(operations=operations, parameters=[parameter])))


def test_fires_on_a_change_between_forward_and_backward() -> None:
    (finding,) = found(use(0), loss(1, 0, backward=3), edit(2))
    assert (finding.step, finding.sites, finding.location) == (0, ("fc.weight",), LINE)


def test_the_first_change_of_a_weight_is_told() -> None:
    again = edit(3, step=1)
    (finding,) = found(
        use(0), loss(1, 0, backward=4), edit(2, step=1), replace(again, location=Location("train.py", 20))
    )
    assert (finding.location, finding.step) == (LINE, 1)


def test_silent_on_values_that_came_without_a_graph_or_from_beyond_the_trace() -> None:
    cold = replace(loss(1, backward=3), operands=(Operand((4,), 0, "", has_graph=False),))
    assert not found(use(0), cold, edit(2))
    assert not found(use(0), loss(1, 99, backward=3), edit(2))


def test_silent_on_an_operation_that_uses_what_it_writes() -> None:
    assert not found(use(0, written="fc.weight"), loss(1, 0, backward=3))


def test_fires_once_for_each_line() -> None:
    other = Operation(3, "mul_", location=LINE, written="fc.bias")
    bias = Operation(
        1, "add", operands=(Operand((4,), 0, "", True), Operand((4,), None, "fc.bias", True)), has_graph=True
    )
    operations = (use(0), bias, loss(2, 1, backward=5), other, edit(4))
    parameters = [STEPPED, replace(STEPPED, path="fc.bias")]
    (finding,) = EditedWeight().analyze(recording(operations=operations, parameters=parameters))
    assert finding.sites == ("fc.bias", "fc.weight")
    assert finding.message.startswith("mul_ changes 2 parameters")


def test_silent_on_changes_before_the_forward_and_after_the_backward() -> None:
    assert not found(edit(0), use(1), loss(2, 1, backward=3))
    assert not found(use(0), loss(1, 0, backward=2), edit(2))


def test_silent_where_the_weight_is_used_again() -> None:
    assert not found(use(0), edit(1), use(2, 0), loss(3, 2, backward=4))


def test_silent_where_no_graph_leads_through_the_weight() -> None:
    cold = replace(use(0), has_graph=False)
    assert not found(cold, loss(1, 0, backward=3), edit(2))
    assert not found(use(0), loss(1, backward=3), edit(2))


def test_silent_on_what_no_optimizer_steps_and_on_another_parameter() -> None:
    assert not found(use(0), loss(1, 0, backward=3), edit(2), parameter=replace(STEPPED, optimizer_steps=0))
    assert not found(use(0), loss(1, 0, backward=3), edit(2, "other.weight"))


def test_silent_between_the_steps_of_two_losses() -> None:
    assert not found(use(0), loss(1, 0, backward=2), edit(2), use(3), loss(4, 3, backward=5))
