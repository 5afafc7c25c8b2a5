from typing import Any

import pytest

from gradscope.analyzers.shape_mismatch import ShapeMismatch
from gradscope.findings import Finding, Severity
from gradscope.testing import recording
from gradscope.traces import Derivative, Failure, Location, Operand, Operation, Verification

LINEAR = (("input", (8, 10)), ("weight", (4, 12)))


def found(failure: Failure | None, **options: Any) -> list[Finding]:
    return list(ShapeMismatch().analyze(recording(failure=failure, **options)))


def fix(message: str, operands: tuple[tuple[str, tuple[int, ...]], ...] = (), phase: str = "forward") -> str:
    (finding,) = found(Failure(3, phase, "net.fc", message, operands=operands))
    return finding.fix


def test_fires_with_module_phase_operation_shapes_and_line() -> None:
    failure = Failure(
        2,
        "backward",
        "net.custom",
        "Function FooBackward returned an invalid gradient at index 1 - "
        "got [64, 10] but expected shape compatible with [10, 64]",
        operation="FooBackward",
        operands=(("x", (5, 64)),),
        expected=(10, 64),
        got=(64, 10),
        location=Location("train.py", 12),
    )
    (finding,) = found(failure)
    assert finding.message == "the backward of module 'net.custom' (FooBackward) failed on shapes"
    assert "[64, 10]" in finding.evidence
    assert "x [5, 64]" in finding.evidence
    assert finding.fix == "a transposition explains it: [64, 10] becomes [10, 64] with .transpose(-2, -1)"
    assert (finding.step, finding.sites, str(finding.location)) == (2, ("net.custom",), "train.py:12")


def test_fires_outside_of_modules_too() -> None:
    (finding,) = found(Failure(0, "forward", "", "Expected input batch_size (3) to match target batch_size (4)."))
    assert "outside of the model's modules" in finding.message
    assert finding.sites == ()


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        ((3, 5), (5, 3), "transposition"),
        ((2, 3, 5), (2, 5, 3), "transposition"),
        ((2, 3, 5), (5, 2, 3), "permute [2, 3, 5] to [5, 2, 3]"),
        ((4, 1), (4,), "dimension of size 1"),
        ((8, 4), (4,), "sum_to_size([4])"),
        ((8, 4), (1, 4), "sum_to_size([1, 4])"),
        ((3, 7), (3, 8), "make it [3, 8]"),
    ],
)
def test_fires_and_explains_a_custom_backward(got: tuple[int, ...], expected: tuple[int, ...], words: str) -> None:
    (finding,) = found(Failure(0, "backward", "fc", "invalid gradient", expected=expected, got=got))
    assert words in finding.fix


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("8x10 and 12x4", "takes 12 features and was given 10"),
        ("8x10 and 12x10", "in_features and out_features look exchanged"),
        ("12x10 and 12x4", "10x12 and 12x4 fit, so transpose the first"),
    ],
)
def test_fires_and_explains_a_linear_layer(sizes: str, words: str) -> None:
    assert words in fix(f"mat1 and mat2 shapes cannot be multiplied ({sizes})", LINEAR)


def test_fires_and_explains_a_product_without_a_layer() -> None:
    message = "mat1 and mat2 shapes cannot be multiplied ({})"
    assert "8x5 and 5x3 fit, so transpose the second" in fix(message.format("8x5 and 3x5"), phase="backward")
    assert "no transposition makes them fit" in fix(message.format("8x10 and 12x4"))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1",
            "3 met 4 in dimension 1",
        ),
        ("Expected input batch_size (3) to match target batch_size (4).", "3 predictions met 4 targets"),
        (
            "weight of size [4, 3, 3, 3], expected input[2, 1, 8, 8] to have 3 channels, but got 1 channels instead",
            "takes 3 channels and was given 1",
        ),
        (
            "weight of size [4, 3, 3, 3], expected input[2, 8, 8, 3] to have 3 channels, but got 8 channels instead",
            "the 3 channels come last",
        ),
        ("shape '[4, 2]' is invalid for input of size 6", "[4, 2] must multiply up to 6"),
        ("Target size (torch.Size([4])) must be the same as input size (torch.Size([4, 1]))", "dimension of size 1"),
        ("Expected target size [3, 7], got [7, 3]", "transposition"),
        ("Expected hidden[0] size (1, 2, 4), got [1, 3, 4]", "make it [1, 2, 4]"),
        ("input.size(-1) must be equal to input_size. Expected 3, got 7", "takes size 3 and was given 7"),
        (
            "Given normalized_shape=[3], expected input with shape [*, 3], but got input of size[2, 4]",
            "takes size [*, 3] and was given [2, 4]",
        ),
        (
            "Expected size for first two dimensions of batch2 tensor to be: [2, 4] but got: [2, 5].",
            "are [2, 5] and must be [2, 4]",
        ),
        (
            "grad_output[0] has a shape of torch.Size([4]) and output[0] has a shape of torch.Size([3]).",
            "make it [3]",
        ),
        (
            "Sizes of tensors must match except in dimension 1. Expected size 2 but got size 3",
            "make the two shapes agree",
        ),
        ("running_mean should contain 4 elements not 3", "make the two shapes agree"),
        ("expected 4D input (got 2D input)", "make the two shapes agree"),
    ],
)
def test_fires_on_what_torch_says_about_shapes(message: str, words: str) -> None:
    assert words in fix(message)


def test_fires_and_sees_that_one_operand_is_the_other_transposed() -> None:
    message = "The size of tensor a (3) must match the size of tensor b (5) at non-singleton dimension 1"
    assert "left transposed has the shape of right" in fix(message, (("left", (5, 3)), ("right", (3, 5))))
    assert "3 met 5" in fix(message, (("left", (5, 3)), ("right", (5, 5))))


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB. If reserved memory is large try setting max_split_size_mb",
        "mat1 and mat2 must have the same dtype, but got Double and Float",
        "Expected parameter loc (Tensor of shape (10, 2)) of distribution Normal to satisfy the constraint Real()",
        "one of the variables needed for gradient computation has been modified by an inplace operation",
        "Trying to backward through the graph a second time",
        "element 0 of tensors does not require grad and does not have a grad_fn",
        "index out of range in self",
        "size mismatch for weight: copying a param with shape torch.Size([4, 4]) from checkpoint",
        "the learning rate must be positive",
        "",
    ],
)
def test_silent_on_other_exceptions(message: str) -> None:
    assert not found(Failure(0, "forward", "fc", message))


def test_silent_without_a_failure() -> None:
    assert not list(ShapeMismatch().analyze(recording()))


PRODUCT = "mat1 and mat2 shapes cannot be multiplied (8x12 and 10x4)"
FIRST = Operation(0, "linear", "fc1", Location("net.py", 5), shapes=((8, 12),))
RELU = Operation(1, "relu", "act", Location("net.py", 6), operands=(Operand((8, 12), 0),))
FAILED = Operation(2, "linear", "fc2", operands=(Operand((8, 12), 1), Operand((4, 10), None, "fc2.weight")))


def test_fires_with_the_origin_of_the_operands_and_both_layers() -> None:
    (finding,) = found(Failure(0, "forward", "fc2", PRODUCT, failed=FAILED), operations=[FIRST, RELU])
    assert "given [8, 12] made by relu in 'act' at net.py:6 and fc2.weight [4, 10]" in finding.evidence
    assert (
        finding.fix
        == "'fc2' takes 10 features and was given 12: set in_features=12 of 'fc2', or out_features=10 of 'fc1'"
    )


def test_fires_with_the_channels_of_both_layers() -> None:
    message = "weight of size [4, 16, 3, 3], expected input[2, 8, 6, 6] to have 16 channels, but got 8 channels"
    conv = Operation(0, "conv2d", "a", shapes=((2, 8, 6, 6),))
    operands = (Operand((2, 8, 6, 6), 0), Operand((4, 16, 3, 3), None, "b.weight"))
    failure = Failure(0, "forward", "b", message, failed=Operation(1, "conv2d", "b", operands=operands))
    (finding,) = found(failure, operations=[conv])
    assert finding.fix == "'b' takes 16 channels and was given 8: set in_channels=8 of 'b', or out_channels=16 of 'a'"


def test_fires_with_what_the_same_line_was_given_before() -> None:
    line = Location("net.py", 9)
    worked = Operation(0, "linear", "fc2", line, operands=(Operand((32, 10)), Operand((4, 10), None, "fc2.weight")))
    (finding,) = found(Failure(7, "forward", "fc2", PRODUCT, location=line), operations=[worked])
    assert "in step 0 this line's linear was given [32, 10] and [4, 10]" in finding.evidence


def test_fires_where_the_function_was_applied_with_the_name_of_its_argument() -> None:
    operands = (Operand((5, 4), name="x"), Operand((4, 3), None, "weight", name="weight"), Operand((3,), None, "bias"))
    call = Operation(0, "Product", "layer", Location("net.py", 3), operands=operands, function="Product")
    failure = Failure(
        0,
        "backward",
        "layer",
        "Function ProductBackward returned an invalid gradient at index 1 - got [3, 4] but expected [4, 3]",
        operation="ProductBackward",
        expected=(4, 3),
        got=(3, 4),
        position=1,
    )
    (finding,) = found(failure, operations=[call])
    assert finding.message == "the backward of Product returned a transposed gradient for 'weight'"
    assert str(finding.location) == "net.py:3"
    assert "transposition" in finding.fix


def test_fires_as_a_note_on_a_gradient_that_autograd_sums() -> None:
    summed = Verification("Product", "layer", derivatives=(Derivative("bias", 1e-9, expected=(3,), returned=(8, 3)),))
    (finding,) = found(None, verifications=[summed])
    assert finding.severity is Severity.NOTE
    assert "'bias'" in finding.message
    assert "[8, 3]" in finding.evidence


def test_silent_on_right_shapes_and_on_gradients_that_are_wrong_anyway() -> None:
    right = Derivative("x", 1e-9, expected=(5, 4), returned=(5, 4))
    wrong = Derivative("weight", 0.5, expected=(3,), returned=(8, 3))
    assert not found(None, verifications=[Verification("Product", derivatives=(right, wrong))])


def test_fires_without_another_layer_where_a_view_has_changed_the_size() -> None:
    conv = Operation(0, "conv2d", "c", shapes=((8, 3, 2, 2),))
    flat = Operation(1, "flatten", "", shapes=((8, 12),), operands=(Operand((8, 3, 2, 2), 0),))
    failed = Operation(2, "linear", "fc2", operands=(Operand((8, 12), 1), Operand((4, 10), None, "fc2.weight")))
    (finding,) = found(Failure(0, "forward", "fc2", PRODUCT, failed=failed), operations=[conv, flat])
    assert finding.fix == "'fc2' takes 10 features and was given 12: set in_features=12 of 'fc2'"


def test_fires_and_tells_a_root_layer_from_what_runs_outside() -> None:
    (root,) = found(Failure(2, "forward", "", PRODUCT, operands=LINEAR, location=Location("train.py", 4, "main")))
    (outside,) = found(Failure(2, "forward", "", PRODUCT, location=Location("train.py", 4, "main")))
    assert "the model itself" in root.message
    assert "outside of the model's modules" in outside.message
