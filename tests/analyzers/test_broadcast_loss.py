from typing import Any

import pytest

from gradscope.analyzers.broadcast_loss import BroadcastLoss
from gradscope.findings import Finding
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation

LOSS_LINE = Location("train.py", 9)


def column(shape: tuple[int, ...] = (32, 1), maker: int | None = 0) -> Operand:
    return Operand(shape, maker, has_graph=True)


def row(shape: tuple[int, ...] = (32,), maker: int | None = None) -> Operand:
    return Operand(shape, maker)


def head(name: str = "linear", line: int = 5) -> Operation:
    return Operation(0, name, "head", Location("net.py", line), shapes=((32, 1),), has_graph=True)


def compared(name: str, *operands: Operand, **fields: Any) -> Operation:
    return Operation(2, name, location=LOSS_LINE, operands=operands, has_graph=True, **fields)


def pooled(*names: str, last: str = "mean") -> list[Operation]:
    steps = [
        Operation(i, name, operands=(column((32, 32), i - 1),), shapes=((32, 32),))
        for i, name in enumerate(names, start=3)
    ]
    end = 3 + len(names)
    return [*steps, Operation(end, last, operands=(column((32, 32), end - 1),), shapes=((),), is_loss=True)]


def found(*trace: Operation) -> list[Finding]:
    return list(BroadcastLoss().analyze(recording(operations=trace)))


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss", "kl_div"])
def test_fires_on_a_loss_of_torch(name: str) -> None:
    (finding,) = found(head(), compared(name, column(), row(), shapes=((),), is_loss=True))
    assert finding.message == f"{name} broadcasts (32, 1) and (32,) to (32, 32): each of 32 is compared with all 32"
    assert finding.location is LOSS_LINE
    assert "(32, 1) is the result of linear in 'head' at net.py:5" in finding.evidence
    assert "(32,) was made before the model ran" in finding.evidence


@pytest.mark.parametrize("names", [("pow",), ("abs",), ("square", "mul"), ()])
def test_fires_on_a_loss_written_by_hand(names: tuple[str, ...]) -> None:
    (finding,) = found(head(), compared("sub", column(), row(), shapes=((32, 32),)), *pooled(*names))
    assert finding.message.startswith("sub broadcasts")


def test_fires_when_the_target_is_the_column() -> None:
    prediction = Operand((32,), 0, has_graph=True)
    (finding,) = found(head(), compared("sub", prediction, row((32, 1)), shapes=((32, 32),)), *pooled("pow"))
    assert ".squeeze(-1) on (32, 1)" in finding.fix


def test_fires_when_the_column_was_made_on_another_line() -> None:
    made = Operation(1, "unsqueeze", location=Location("train.py", 3), operands=(row(),), shapes=((32, 1),))
    target = Operand((32, 1), 1)
    prediction = Operand((32,), 0, has_graph=True)
    assert found(head(), made, compared("sub", prediction, target, shapes=((32, 32),)), *pooled("pow"))


def test_silent_on_equal_shapes() -> None:
    assert not found(head(), compared("mse_loss", column(), row((32, 1)), shapes=((),), is_loss=True))


def test_silent_on_a_batch_of_one() -> None:
    assert not found(head(), compared("mse_loss", column((1, 1)), row((1,)), shapes=((),), is_loss=True))


def test_silent_on_all_pairs_of_one_tensor() -> None:
    made = Operation(1, "unsqueeze", operands=(Operand((32,), 0, has_graph=True),), shapes=((32, 1),), has_graph=True)
    pairs = compared("sub", column(maker=1), row(maker=0), shapes=((32, 32),))
    assert not found(head(), made, pairs, *pooled("abs"))


def test_silent_on_a_column_made_on_the_line_that_uses_it() -> None:
    made = Operation(1, "unsqueeze", location=LOSS_LINE, operands=(Operand((32,), 0, has_graph=True),), has_graph=True)
    assert not found(head(), made, compared("sub", column(maker=1), row(), shapes=((32, 32),)), *pooled("abs"))


def test_silent_on_pairs_that_go_through_a_softmax() -> None:
    pairs = compared("sub", column(), row(), shapes=((32, 32),))
    assert not found(head(), pairs, *pooled("softmax", "mul"))


def test_silent_on_what_does_not_flow_into_the_loss() -> None:
    aside = compared("mse_loss", column(), row(), shapes=((),))
    assert not found(head(), aside, Operation(3, "mean", operands=(column(),), is_loss=True))


def test_silent_on_quantiles_that_meet_a_column_of_targets() -> None:
    quantiles = Operand((32, 5), 0, has_graph=True)
    assert not found(head(), compared("sub", row((32, 1)), quantiles, shapes=((32, 5),)), *pooled("maximum"))


def test_silent_without_a_graph() -> None:
    assert not found(head(), compared("mse_loss", row((32, 1)), row(), shapes=((),), is_loss=True))
