import pytest

from gradscope.analyzers.loss_input_mismatch import LossInputMismatch
from gradscope.findings import Finding
from gradscope.testing import recording
from gradscope.traces import Location, Operand, Operation

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
