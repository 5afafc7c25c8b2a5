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


@pytest.mark.parametrize("names", [("pow",), ("abs",), ("square", "mul"), ("abs", "detach", "view", "log1p")])
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


FAKE = Operand((32,), 0, has_graph=True)


def pairs(name: str = "sub", *operands: Operand, index: int = 2, **fields: Any) -> Operation:
    """An operation that makes a square, by default of the head's column and a row from outside."""
    given: dict[str, Any] = {"location": LOSS_LINE, "has_graph": True, "shapes": ((32, 32),)} | fields
    return Operation(index, name, operands=operands or (column(), row()), **given)


def use(index: int, name: str, *makers: int, shape: tuple[int, ...] = (32, 32), **fields: Any) -> Operation:
    """An operation on squares that others have made."""
    operands = tuple(Operand((32, 32), maker, has_graph=True) for maker in makers)
    return Operation(index, name, operands=operands, shapes=(shape,), has_graph=True, **fields)


def standing(*operands: Operand, line: int = 3, name: str = "unsqueeze", **fields: Any) -> Operation:
    """A view that makes a column, by default of the fake samples, on another line than the loss."""
    place = fields.pop("location", Location("train.py", line))
    return Operation(1, name, location=place, operands=operands or (FAKE,), shapes=((32, 1),), **fields)


@pytest.mark.parametrize("name", ["mul", "div", "where", "maximum", "broadcast_tensors", "add"])
def test_fires_on_weights_and_rewards(name: str) -> None:
    (finding,) = found(head(), pairs(name), *pooled("exp"))
    assert finding.message.endswith("each of 32 is combined with all 32")
    assert "only its own were meant" in finding.why


@pytest.mark.parametrize("last", ["mean", "sum", "norm", "linalg_vector_norm", "mse_loss"])
def test_fires_whatever_brings_the_pairs_together(last: str) -> None:
    assert found(head(), pairs(), *pooled("square", last=last))


def test_fires_on_a_sum_along_one_dimension_and_a_mean_along_the_other() -> None:
    total = use(4, "sum", 3, shape=(32,))
    mean = Operation(5, "mean", operands=(Operand((32,), 4, has_graph=True),), shapes=((),), is_loss=True)
    assert found(head(), pairs(), use(3, "pow", 2), total, mean)


def test_fires_on_a_sequence_as_long_as_the_batch() -> None:
    first = column((4, 4, 1))
    made = compared("sub", first, row((4, 4)), shapes=((4, 4, 4),))
    squares = Operand((4, 4, 4), 2, has_graph=True)
    (finding,) = found(head(), made, Operation(3, "norm", operands=(squares,), shapes=((),), is_loss=True))
    assert "to (4, 4, 4): each of 16 is compared with 4" in finding.message


def test_fires_once_where_the_pairs_of_two_operations_meet() -> None:
    ratio, advantage = Operand((32,), 0, has_graph=True), row((32, 1))
    both = pairs("mul", ratio, advantage), pairs("mul", ratio, advantage, index=3, location=Location("train.py", 10))
    assert len(found(head(), *both, use(4, "min", 2, 3), use(5, "mean", 4, shape=(), is_loss=True))) == 1


def test_fires_once_for_a_prediction_in_two_losses() -> None:
    second = compared("l1_loss", column(), row(), shapes=((),))
    first = Operation(1, "mse_loss", operands=(column(), row()), shapes=((),), has_graph=True)
    total = Operation(3, "add", operands=(Operand((), 1), Operand((), 2)), shapes=((),), is_loss=True)
    (finding,) = found(head(), first, second, total)
    assert finding.message.startswith("mse_loss")


def test_fires_once_for_a_line_that_runs_many_times() -> None:
    again = Operation(4, "linear", "head", shapes=((32, 1),), step=1, has_graph=True)
    losses = [
        Operation(i, "mse_loss", "", LOSS_LINE, step, (column(maker=maker), row()), ((),), True, is_loss=True)
        for i, step, maker in [(3, 0, 0), (5, 1, 4)]
    ]
    (finding,) = found(head(), losses[0], again, losses[1])
    assert finding.step == 0


def test_fires_for_each_of_two_heads() -> None:
    other = Operation(1, "linear", "second", shapes=((32, 1),), has_graph=True)
    places: dict[str, Any] = {"shapes": ((),), "is_loss": True, "has_graph": True}
    losses = [
        Operation(i, "mse_loss", "", Location("train.py", i), 0, (column(maker=i - 5), row()), **places) for i in (5, 6)
    ]
    assert [finding.sites for finding in found(head(), other, *losses)] == [("head",), ("second",)]


def test_fires_on_a_target_that_was_computed_without_grad_mode() -> None:
    value, reward = Operand((32, 1), 7), row()
    made = [Operation(7, "linear", "critic", shapes=((32, 1),)), pairs("add", reward, value, has_graph=False, index=8)]
    loss = Operation(9, "mse_loss", operands=(column(), Operand((32, 32), 8)), shapes=((),), is_loss=True)
    (finding,) = found(head(), *made, loss)
    assert finding.message.startswith("add broadcasts")
    assert finding.sites == ("critic",)


def test_fires_on_a_comparison_of_the_same_operands_beside_the_difference() -> None:
    over = pairs("gt", row(), column(), index=3, has_graph=False)
    chosen = Operation(4, "where", operands=(Operand((32, 32), 3), Operand((32, 32), 2)), shapes=((32, 32),))
    assert len(found(head(), pairs(), over, chosen, use(5, "mean", 4, shape=(), is_loss=True))) == 1


def test_fires_on_zeros_like_the_pairs_beside_them() -> None:
    zeros = Operation(3, "zeros_like", shapes=((32, 32),))
    assert found(head(), pairs(), zeros, use(4, "huber_loss", 2, 3, shape=(), is_loss=True))


def test_fires_through_the_broadcasting_of_a_distribution_and_names_the_layer() -> None:
    made = Operation(1, "broadcast_tensors", operands=(column(), Operand(())), shapes=((32, 1), (32, 1)))
    (finding,) = found(head(), made, pairs("sub", column(maker=1), row()), *pooled("pow"))
    assert "(32, 1) is the result of linear in 'head' at net.py:5" in finding.evidence


def test_fires_and_says_where_the_column_was_made() -> None:
    (finding,) = found(head(), standing(row(), name="view"), pairs("sub", FAKE, row((32, 1), 1)), *pooled("abs"))
    assert "(32, 1) was made before the model ran, and a column since view at train.py:3" in finding.evidence


def test_fires_on_one_selected_column() -> None:
    """`output[:, :1] - target` selects the column on the line that uses it and makes no pairs on purpose."""
    wide = Operation(0, "linear", "head", shapes=((32, 2),), has_graph=True)
    selected = standing(Operand((32, 2), 0, has_graph=True), name="__getitem__", location=LOSS_LINE)
    assert found(wide, selected, pairs("sub", column(maker=1), row()), *pooled("pow"))


def test_fires_on_a_row_that_was_flattened_on_the_line_that_uses_it() -> None:
    place = Location("train.py", 9, source="((output.view(-1) - y) ** 2).mean()", column=1, end=21)
    flat = Operation(1, "view", location=place, operands=(column(),), shapes=((32,),), has_graph=True)
    difference = pairs("sub", Operand((32,), 1, has_graph=True), row((32, 1)), location=place)
    assert found(head(), flat, difference, *pooled("pow"))


def test_fires_on_a_loss_of_torch_even_with_an_unsqueeze_in_its_call() -> None:
    made = standing(row(), location=LOSS_LINE)
    assert found(head(), made, compared("mse_loss", FAKE, row((32, 1), 1), shapes=((),), is_loss=True))


@pytest.mark.parametrize(
    ("line", "source"), [(9, "y.unsqueeze(1) - net(x)"), (9, "y[:, None] - net(x)"), (9, "y.view(-1, 1) - net(x)")]
)
def test_silent_on_a_column_made_before_the_model_ran_but_in_this_expression(line: int, source: str) -> None:
    place = Location("train.py", line, source=f"({source}).abs().mean()", column=1, end=1 + len(source))
    assert not found(head(), pairs("sub", row((32, 1)), FAKE, location=place), *pooled("abs"))


def test_silent_on_a_column_made_in_an_expression_of_two_lines() -> None:
    first, second = Location("train.py", 9, source="f.unsqueeze(1)"), Location("train.py", 10, source="- real")
    difference = pairs("sub", column(maker=1), row(), location=second)
    assert not found(head(), standing(location=first), difference, *pooled("abs"))


def test_silent_on_a_sample_that_is_compared_with_itself_elsewhere() -> None:
    """The energy distance: 2 E|x - y| - E|x - x'|."""
    within = pairs("sub", column(maker=1), FAKE, index=3)
    across = pairs("sub", column(maker=1), row())
    ends = use(4, "abs", 2), use(5, "abs", 3), use(6, "sub", 4, 5), use(7, "mean", 6, shape=(), is_loss=True)
    assert not found(head(), standing(), across, within, *ends)


def test_silent_on_one_tensor_and_its_detached_twin() -> None:
    detached = Operation(20, "detach", operands=(FAKE,), shapes=((32,),))
    assert not found(head(), standing(), detached, pairs("sub", column(maker=1), row(maker=20)), *pooled("abs"))


def test_silent_on_squared_distances_by_their_binomial() -> None:
    """|x|^2 + |y|^2 - 2 x y: the square of norms meets a product that was a square from the start."""
    product = Operation(1, "matmul", shapes=((32, 32),), has_graph=True)
    distance = use(3, "sub", 2, 1)
    trace = head("sum"), product, pairs("add"), distance, use(4, "exp", 3)
    assert not found(*trace, use(5, "mean", 4, shape=(), is_loss=True))


def test_silent_on_a_mask_of_pairs() -> None:
    mask = Operation(1, "eye", shapes=((32, 32),), has_graph=False)
    assert not found(head(), mask, pairs(), use(3, "mul", 2, 1), use(4, "mean", 3, shape=(), is_loss=True))


def test_silent_on_the_nearest_of_all_pairs() -> None:
    nearest = use(4, "min", 3, shape=(32,))
    mean = Operation(5, "mean", operands=(Operand((32,), 4, has_graph=True),), shapes=((),), is_loss=True)
    assert not found(head(), pairs(), use(3, "abs", 2), nearest, mean)


def test_silent_on_a_density_that_is_pooled_and_then_goes_through_a_logarithm() -> None:
    density = use(4, "mean", 3, shape=(32,))
    logarithm = Operation(5, "log", operands=(Operand((32,), 4, has_graph=True),), shapes=((32,),), has_graph=True)
    mean = Operation(6, "mean", operands=(Operand((32,), 5, has_graph=True),), shapes=((),), is_loss=True)
    assert not found(head(), pairs(), use(3, "exp", 2), density, logarithm, mean)


def test_silent_on_an_outer_product_that_a_layer_takes() -> None:
    """Frequencies of a time embedding, gates, attention."""
    assert not found(head(), pairs("mul"), *pooled("sin", "linear"))


def test_silent_on_a_bias() -> None:
    bias = Operand((32,), parameter="head.bias", has_graph=True)
    assert not found(head(), pairs("add", column(), bias), *pooled("pow"))


def test_silent_on_a_view_of_a_parameter() -> None:
    view = Operation(1, "view", operands=(Operand((1, 32), parameter="centers", has_graph=True),), shapes=((32,),))
    assert not found(head(), view, pairs("sub", column(), Operand((32,), 1, has_graph=True)), *pooled("pow"))


def test_silent_on_a_grid() -> None:
    grid = Operation(1, "linspace", shapes=((32,),))
    assert not found(head(), grid, pairs("sub", column(), row(maker=1)), *pooled("pow"))


@pytest.mark.parametrize("names", [(), ("neg",), ("view", "neg")])
def test_silent_on_a_difference_of_which_only_the_mean_is_taken(names: tuple[str, ...]) -> None:
    """A critic's loss: the mean over all pairs is the mean over the ones that were meant. Their sum is not."""
    assert not found(head(), pairs(), *pooled(*names))
    assert found(head(), pairs(), *pooled(*names, last="sum"))


def test_silent_on_a_difference_that_is_only_scaled_before_its_mean() -> None:
    assert not found(head(), pairs(), *pooled("mul"))
    weighted = Operation(
        3, "mul", operands=(column((32, 32), 2), row()), shapes=((32, 32),), has_graph=True, location=LOSS_LINE
    )
    assert found(head(), pairs(), weighted, use(4, "mean", 3, shape=(), is_loss=True))


def test_silent_on_pairs_without_a_graph_that_weigh_others() -> None:
    """A square of labels, made on purpose on another line, that weighs the samples."""
    labels = standing(row(maker=None))
    rank = pairs("sub", row((32, 1), 1), row(), has_graph=False)
    weighted = Operation(3, "mul", operands=(Operand((32, 32), 2), column()), shapes=((32, 32),), has_graph=True)
    assert not found(head(), labels, rank, weighted, use(4, "mean", 3, shape=(), is_loss=True))


def test_silent_on_the_variance_that_a_gaussian_loss_takes_without_its_last_dimension() -> None:
    given = column(), row((32, 1)), row()
    assert not found(head(), compared("gaussian_nll_loss", *given, shapes=((),), is_loss=True))


def test_silent_on_a_comparison() -> None:
    """Whatever uses it, no gradient comes through."""
    over = pairs("gt", has_graph=False)
    right = Operation(3, "float", operands=(Operand((32, 32), 2),), shapes=((32, 32),))
    assert not found(head(), over, right, use(4, "mean", 3, shape=(), is_loss=True))
