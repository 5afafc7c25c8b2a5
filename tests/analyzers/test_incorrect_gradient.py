import pytest

from gradscope.analyzers.incorrect_gradient import IncorrectGradient
from gradscope.findings import Finding, Severity
from gradscope.testing import recording
from gradscope.traces import Derivative, Failure, Location, Verification


def found(*derivatives: Derivative, failure: Failure | None = None, **fields: object) -> list[Finding]:
    verification = Verification("MyLinear", "fc1", 2, Location("train.py", 9), derivatives=derivatives, **fields)  # type: ignore[arg-type]
    return list(IncorrectGradient().analyze(recording(verifications=[verification], failure=failure)))


def one(derivative: Derivative, **fields: object) -> Finding:
    (finding,) = found(derivative, **fields)  # type: ignore[arg-type]
    return finding


@pytest.mark.parametrize(
    ("derivative", "message", "fix"),
    [
        (Derivative("w", 1.4, transposed=True), "'w' is transposed", "return its transpose for 'w'"),
        (Derivative("w", 1.0, missing=True, computed=0.0), "'w' is missing (None)", "return the gradient of 'w'"),
        (Derivative("w", 1.0, computed=0.0), "'w' is zero", "return the gradient of 'w'"),
        (Derivative("w", 2.0, factor=-1.0), "'w' has the wrong sign", "multiply the gradient of 'w' by -1"),
        (
            Derivative("w", 0.5, factor=0.5),
            "'w' is 0.5 times what it should be: a factor of 2 is missing",
            "multiply the gradient of 'w' by 2",
        ),
        (Derivative("w", 0.5, factor=2.0), "a factor of 0.5 is missing", "multiply the gradient of 'w' by 0.5"),
        (Derivative("w", 0.7), "'w' disagrees with finite differences", "derive the gradient of 'w' anew"),
        (
            Derivative("w", 1.0, 0, transposed=True, expected=(3, 4), returned=(4, 3)),
            "'w' has the transposed shape",
            "return its transpose for 'w'",
        ),
        (
            Derivative("w", 1.0, 0, expected=(3, 4), returned=(5,)),
            "'w' has a shape that does not fit",
            "return a gradient of shape [3, 4]",
        ),
    ],
)
def test_fires_and_says_what_is_wrong(derivative: Derivative, message: str, fix: str) -> None:
    finding = one(derivative)
    assert finding.severity is Severity.ERROR
    assert finding.message.startswith("the gradient that MyLinear gives ")
    assert finding.message.endswith(message)
    assert finding.fix.startswith(fix)
    assert (finding.step, finding.sites, str(finding.location)) == (2, ("fc1",), "train.py:9")


def test_fires_with_what_was_measured() -> None:
    finding = one(Derivative("w", 0.52345, 3, expected=(3,), returned=(8, 3)), dtype="float32")
    assert finding.evidence == (
        "it differs by 0.523 from finite differences in 3 directions in float32 (limit 0.01, relative); "
        "it was returned as [8, 3] for [3]"
    )
    assert "returned" not in one(Derivative("w", 0.5, expected=(3,), returned=(3,))).evidence
    assert one(Derivative("w", 1.0, 0, expected=(3, 4), returned=(5,))).evidence == (
        "the backward returned [5], 'w' is [3, 4]"
    )


def test_fires_once_for_a_function_with_several_wrong_gradients() -> None:
    wrong = Derivative("x", 0.4, expected=(2, 2), returned=(2, 2)), Derivative("w", 1.0, missing=True, expected=(2, 2))
    (finding,) = found(*wrong, Derivative("bias", 1e-9))
    assert finding.message == "the gradients that MyLinear gives 'x' and 'w' are wrong"
    assert finding.table == (
        ("argument", "shape", "returned", "difference", "what"),
        ("x", "[2, 2]", "[2, 2]", "0.4", "it disagrees with finite differences"),
        ("w", "[2, 2]", "None", "1", "it is missing (None)"),
    )
    assert "'w' differs by 1 " in finding.evidence
    assert finding.fix.count(";") == 1


def test_fires_for_each_function() -> None:
    wrong = (Derivative("x", 1.0),)
    verifications = [Verification("A", derivatives=wrong), Verification("B", "fc", derivatives=wrong)]
    findings = list(IncorrectGradient().analyze(recording(verifications=verifications)))
    assert len({finding.cause for finding in findings}) == 2
    assert findings[0].sites == ()


@pytest.mark.parametrize(
    ("derivative", "change"),
    [
        (Derivative("x", 2.0, factor=-1.0), "multiplies the gradient of 'x' by -1: gradient reversal"),
        (Derivative("x", 0.9, factor=0.1), "multiplies the gradient of 'x' by 0.1"),
        (Derivative("x", 0.9), "changes the gradient of 'x'"),
        (Derivative("x", 1.0, missing=True), "stops the gradient of 'x'"),
        (Derivative("x", 1.0, computed=0.0), "multiplies the gradient of 'x' by 0 in step 2"),
    ],
)
def test_an_identity_that_changes_its_gradient_is_a_note(derivative: Derivative, change: str) -> None:
    finding = one(derivative, identity=True)
    assert finding.severity is Severity.NOTE
    assert finding.message == f"MyLinear returns its input as it is, and {change}"
    assert finding.fix.startswith("nothing, if it is meant")


def test_a_straight_through_estimator_is_a_note() -> None:
    finding = one(Derivative("x", 1.0, measured=0.0), rounds=True)
    assert finding.severity is Severity.NOTE
    assert "straight-through estimator" in finding.message


@pytest.mark.parametrize(
    "derivative",
    [Derivative("x", 1e-9), Derivative("x", 9e-3), Derivative("x", 0.0, missing=True, measured=0.0, computed=0.0)],
    ids=["exact", "kinks", "None where nothing depends on it"],
)
def test_silent_on_what_agrees(derivative: Derivative) -> None:
    assert not found(derivative)
    assert not found(derivative, identity=True, rounds=True)


def test_silent_on_a_shape_that_autograd_has_refused_with_an_exception() -> None:
    failure = Failure(0, "backward", "fc1", "Function returned an invalid gradient")
    misfit = Derivative("w", 1.0, 0, expected=(3, 4), returned=(4, 3))
    assert not found(misfit, failure=failure)
    assert found(Derivative("w", 1.0), failure=failure)


def test_silent_without_any_verification() -> None:
    assert not list(IncorrectGradient().analyze(recording()))


def test_the_limit_can_be_changed() -> None:
    verification = Verification("F", derivatives=(Derivative("x", 1e-3),))
    assert list(IncorrectGradient(limit=1e-4).analyze(recording(verifications=[verification])))
