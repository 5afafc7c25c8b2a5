import pytest

from gradscope.analyzers.loss_input_mismatch import LossInputMismatch
from gradscope.findings import Finding
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation, Range

LOSS_LINE = Location("train.py", 9)


def source(name: str, *, has_graph: bool = True) -> Operation:
    return Operation(0, name, "last", Location("net.py", 12), shapes=((8, 10),), has_graph=has_graph)


def loss(name: str, *operands: Operand) -> Operation:
    given = operands or (Operand((8, 10), 0, has_graph=True), Operand((8,)))
    return Operation(9, name, location=LOSS_LINE, operands=given, shapes=((),), has_graph=True, is_loss=True)


def between(name: str) -> Operation:
    return Operation(1, name, operands=(Operand((8, 10), 0, has_graph=True),), shapes=((8, 10),), has_graph=True)


def found(*trace: Operation) -> list[Finding]:
    return list(LossInputMismatch().analyze(recording(operations=trace)))


@pytest.mark.parametrize(
    ("name", "given", "word"),
    [
        ("cross_entropy", "softmax", "1.46"),
        ("nll_loss", "softmax", "log_softmax"),
        ("nll_loss_nd", "sigmoid", "log_softmax"),
        ("nll_loss", "linear", "was given logits, the result of linear in 'last'"),
        ("nll_loss", "conv2d", "falls without end"),
        ("binary_cross_entropy_with_logits", "sigmoid", "drop the sigmoid"),
        ("binary_cross_entropy_with_logits", "softmax", "drop the softmax"),
        ("multilabel_soft_margin_loss", "sigmoid_", "drop the sigmoid"),
        ("kl_div", "softmax", "first argument"),
        ("log_softmax", "softmax", "1.46"),
        ("cross_entropy", "sigmoid", "drop the sigmoid: cross_entropy applies softmax itself"),
        ("cross_entropy", "gumbel_softmax", "1.46"),
        ("nll_loss", "relu", "falls without end"),
        ("nll_loss", "softmax", "the mean probability"),
        ("kl_div", "linear", "from logits"),
        ("binary_cross_entropy_with_logits", "sigmoid", "0.31 for a positive and 0.69 for a negative"),
    ],
)
def test_fires_on_what_the_loss_does_not_take(name: str, given: str, word: str) -> None:
    (finding,) = found(source(given), loss(name))
    assert word in str(finding)
    assert (finding.location, finding.sites) == (LOSS_LINE, ("last",))
    assert "at net.py:12" in finding.evidence


@pytest.mark.parametrize("view", ["view", "reshape", "transpose", "float", "squeeze", "__getitem__"])
def test_fires_through_views_and_casts(view: str) -> None:
    assert found(source("softmax"), between(view), loss("cross_entropy", Operand((8, 10), 1, has_graph=True)))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cross_entropy", "linear"),
        ("cross_entropy", "log_softmax"),
        ("nll_loss", "log_softmax"),
        ("nll_loss", "log"),
        ("nll_loss", "logsigmoid"),
        ("mse_loss", "sigmoid"),
        ("binary_cross_entropy", "sigmoid"),
        ("binary_cross_entropy_with_logits", "linear"),
        ("kl_div", "log_softmax"),
    ],
)
def test_silent_on_what_the_loss_takes(name: str, given: str) -> None:
    assert not found(source(given), loss(name))


def test_silent_on_the_probabilities_of_a_teacher() -> None:
    student = Operation(1, "linear", "student", shapes=((8, 10),), has_graph=True)
    given = Operand((8, 10), 1, has_graph=True), Operand((8, 10), 0)
    assert not found(source("softmax", has_graph=False), student, loss("cross_entropy", *given))


def test_silent_on_a_scale_between_softmax_and_the_loss() -> None:
    assert not found(source("softmax"), between("div"), loss("cross_entropy", Operand((8, 10), 1, has_graph=True)))


def test_silent_without_a_graph() -> None:
    assert not found(source("softmax", has_graph=False), loss("cross_entropy", Operand((8, 10), 0)))


def test_silent_on_a_loss_that_is_only_logged() -> None:
    logged = Operation(8, "cross_entropy", operands=(Operand((8, 10), 0, has_graph=True),), has_graph=True)
    other = Operation(9, "mean", operands=(Operand((8, 10), 0, has_graph=True),), is_loss=True)
    assert not found(source("softmax"), logged, other)


WHOLE = Operand((8, 10), 0, has_graph=True)


def chain(*names: str, start: int = 1, operand: Operand = WHOLE) -> list[Operation]:
    """Operations of which each takes the one before, on from an operand."""
    made = []
    for index, name in enumerate(names, start):
        made.append(Operation(index, name, "last", Location("net.py", 12), 0, (operand,), ((8, 10),), True))
        operand = Operand((8, 10), index, has_graph=True)
    return made


def at(index: int) -> Operand:
    return Operand((8, 10), index, has_graph=True)


def test_fires_with_the_values_and_the_floor_for_the_classes_along_the_second_dimension() -> None:
    given = Operation(0, "softmax", shapes=((2, 5, 4, 4),), has_graph=True, values=Range(0.125, 0.5))
    (finding,) = found(given, loss("cross_entropy", Operand((2, 5, 4, 4), 0, has_graph=True), Operand((2, 4, 4))))
    assert finding.evidence.endswith("it holds 0.125 to 0.5")
    assert "log(e + 5 - 1) - 1 = 0.90" in finding.why


def test_fires_on_a_single_sample() -> None:
    (finding,) = found(source("softmax"), loss("cross_entropy", Operand((3,), 0, has_graph=True), Operand(())))
    assert "log(e + 3 - 1) - 1 = 0.55" in finding.why


@pytest.mark.parametrize("join", ["cat", "stack"])
def test_fires_on_probabilities_that_were_put_together(join: str) -> None:
    second = Operation(1, "softmax", shapes=((8, 10),), has_graph=True)
    joined = Operation(2, join, operands=(WHOLE, at(1)), shapes=((16, 10),), has_graph=True)
    assert found(source("softmax"), second, joined, loss("cross_entropy", at(2)))


def test_fires_through_the_broadcasting_of_a_distribution() -> None:
    together = Operation(2, "broadcast_tensors", operands=(WHOLE, Operand((8, 10))), shapes=((8, 10),), has_graph=True)
    assert found(source("sigmoid"), together, loss("binary_cross_entropy_with_logits", at(2)))


def test_fires_on_a_softmax_by_hand() -> None:
    made = source("linear"), *chain("exp", "sum")
    quotient = Operation(3, "div", "last", operands=(at(1), at(2)), shapes=((8, 10),), has_graph=True)
    (finding,) = found(*made, quotient, loss("cross_entropy", at(3)))
    assert finding.message == "cross_entropy takes logits and was given the result of softmax by hand in 'last'"


def test_fires_on_a_softmax_by_hand_that_takes_the_exponential_twice() -> None:
    twice = *chain("exp"), *chain("exp", "sum", start=2)
    quotient = Operation(4, "div", operands=(at(1), at(3)), shapes=((8, 10),), has_graph=True)
    assert found(source("linear"), *twice, quotient, loss("cross_entropy", at(4)))


@pytest.mark.parametrize("names", [("logsumexp",), ("exp", "sum", "log")])
def test_fires_on_a_log_softmax_by_hand(names: tuple[str, ...]) -> None:
    sums = chain(*names)
    difference = Operation(8, "sub", "", LOSS_LINE, 0, (WHOLE, at(sums[-1].index)), ((8, 10),), True)
    picked = Operation(9, "mean", operands=(at(8),), is_loss=True)
    (finding,) = found(source("softmax"), *sums, difference, picked)
    assert finding.message.startswith("log_softmax by hand takes logits and was given the result of softmax")
    assert finding.location is LOSS_LINE


def test_fires_on_logits_with_a_bias_added_by_hand() -> None:
    bias = Operand((10,), parameter="bias", has_graph=True)
    biased = Operation(1, "add", operands=(WHOLE, bias), shapes=((8, 10),), has_graph=True)
    assert "logits, the result of matmul" in found(source("matmul"), biased, loss("nll_loss", at(1)))[0].message


def test_fires_once_for_a_line_that_runs_many_times() -> None:
    again = Operation(10, "softmax", "last", Location("net.py", 12), shapes=((8, 10),), step=1, has_graph=True)
    second = Operation(11, "cross_entropy", "", LOSS_LINE, 1, (at(10), Operand((8,))), ((),), True, is_loss=True)
    (finding,) = found(source("softmax"), loss("cross_entropy"), again, second)
    assert finding.step == 0


def test_fires_for_each_of_two_heads() -> None:
    second = Operation(1, "softmax", "second", shapes=((8, 10),), has_graph=True)
    other = Operation(8, "cross_entropy", "", LOSS_LINE, 0, (at(1), Operand((8,))), ((),), True, is_loss=True)
    assert len(found(source("softmax"), second, other, loss("cross_entropy"))) == 2


@pytest.mark.parametrize("name", ["nll_loss", "kl_div"])
def test_silent_on_a_product_that_holds_no_positive_number(name: str) -> None:
    """Log-probabilities that a one-hot matrix has picked."""
    picked = Operation(0, "matmul", shapes=((8, 10),), has_graph=True, values=Range(-4.0, -0.1))
    assert not found(picked, loss(name))


@pytest.mark.parametrize("name", ["log", "mean", "mul", "sub", "gather", "logit", "div"])
def test_silent_on_any_operation_between_softmax_and_the_loss(name: str) -> None:
    assert not found(source("softmax"), between(name), loss("cross_entropy", at(1)))
    assert not found(source("softmax"), between(name), loss("nll_loss", at(1)))


def test_silent_on_attention_inside_of_the_model() -> None:
    mixed = Operation(1, "matmul", "attention", operands=(WHOLE, at(5)), shapes=((8, 10),), has_graph=True)
    head = Operation(2, "linear", "head", operands=(at(1),), shapes=((8, 10),), has_graph=True)
    assert not found(source("softmax"), mixed, head, loss("cross_entropy", at(2)))


def test_silent_on_probabilities_put_together_with_something_else() -> None:
    rest = Operation(1, "rsub", operands=(WHOLE,), shapes=((8, 10),), has_graph=True)
    joined = Operation(2, "cat", operands=(at(1), WHOLE), shapes=((8, 20),), has_graph=True)
    assert not found(source("sigmoid"), rest, joined, loss("cross_entropy", at(2)))


def test_silent_on_a_focal_weight_beside_the_loss() -> None:
    weight = Operation(1, "sigmoid", operands=(WHOLE,), shapes=((8, 10),), has_graph=True)
    each = Operation(8, "binary_cross_entropy_with_logits", operands=(WHOLE, Operand((8, 10))), has_graph=True)
    total = Operation(9, "mul", operands=(at(1), at(8)), shapes=((),), is_loss=True)
    assert not found(source("linear"), weight, each, total)


def test_silent_on_a_quotient_that_is_no_softmax() -> None:
    made = source("linear"), *chain("exp"), *chain("sum", start=2, operand=Operand((8, 10)))
    quotient = Operation(3, "div", operands=(at(1), at(2)), shapes=((8, 10),), has_graph=True)
    assert not found(*made, quotient, loss("cross_entropy", at(3)))


def test_silent_on_a_difference_that_is_no_log_softmax() -> None:
    mean = Operation(1, "mean", operands=(WHOLE,), shapes=((8, 1),), has_graph=True)
    difference = Operation(8, "sub", operands=(WHOLE, at(1)), shapes=((8, 10),), has_graph=True)
    assert not found(source("softmax"), mean, difference, Operation(9, "mean", operands=(at(8),), is_loss=True))


def test_silent_on_a_log_softmax_by_hand_of_logits() -> None:
    difference = Operation(8, "sub", operands=(WHOLE, at(1)), shapes=((8, 10),), has_graph=True)
    trace = source("linear"), *chain("logsumexp"), difference
    assert not found(*trace, Operation(9, "mean", operands=(at(8),), is_loss=True))
