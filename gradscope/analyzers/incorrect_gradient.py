"""A backward written by hand gives another gradient than finite differences do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.traces import Derivative, Verification

MEANT = "nothing, if it is meant"


@dataclass(frozen=True)
class IncorrectGradient(Analyzer):
    """The gradient of a custom autograd Function is not the derivative of what it computes.

    ## What it means
    A `torch.autograd.Function` has a forward and a backward that are written separately. Here they do not
    belong together: the backward returns something else than the derivative of the forward.

    ## Why it matters
    Autograd checks only shapes, and not even a transposed gradient of a square matrix. A missing factor, a
    wrong sign or a None trains everything before it with a wrong gradient, and nothing fails.

    ## How it is measured
    In the first step, the first call of each Function is made again with copies of its arguments in float64, a
    little off kinks, with the same random numbers. The gradient of a random projection of its outputs is
    compared with central differences in random directions, argument by argument. It is wrong if it disagrees
    at every step size while the differences agree among themselves. `gradscope.verify(module, *inputs)` does
    the same for a whole module, when asked.

    Functions that remember something (a list, a counter, a file), that take other arguments than tensors and
    plain values, or that are too large are not called again; the report names them.

    ## What it is not
    Straight-through estimators and surrogate gradients, whose forward rounds or jumps, and Functions that return
    their input unchanged or clipped, as gradient reversal, scaling and clipping do: these are notes, because only
    you know whether they are meant. Kinks, as in ReLU, and computing in lower precision are neither.

    ## How to fix it
    The message says what would make it right, where that can be told: a transposition, a factor, a sign. Otherwise
    derive the backward anew. Each returned gradient is the incoming one times the derivative, in the shape of its
    input.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> weight = Derivative("weight", 1.41, 3, transposed=True, expected=(4, 4), returned=(4, 4))
    >>> made = recording(verifications=[Verification("MyLinear", "fc1", derivatives=(weight,))])
    >>> for found in IncorrectGradient().analyze(made):
    ...     print(found)
    ERROR    incorrect-gradient   since step 0   'fc1'
             the gradient that MyLinear gives 'weight' is transposed
             measured: it differs by 1.41 from finite differences in 3 directions in float64 (limit 0.01, relative)
             why: nothing fails, but what it belongs to and everything before it is trained in a wrong direction
             fix: return its transpose for 'weight': gradient.transpose(-2, -1)

    ## Silent on
    >>> made = recording(verifications=[Verification("MyLinear", derivatives=(Derivative("weight", 1e-9),))])
    >>> list(IncorrectGradient().analyze(made))
    []

    ## Sources
    - Stanford CS231n, "Gradient checks", https://cs231n.github.io/neural-networks-3/#gradcheck
    - PyTorch, "Extending torch.autograd", https://docs.pytorch.org/docs/stable/notes/extending.html
    - Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
      2013, https://arxiv.org/abs/1308.3432 (straight-through estimators)
    - Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015 (gradient reversal)
    """

    severity: ClassVar[Severity] = Severity.ERROR

    limit: float = field(
        default=1e-2,
        metadata={
            "unit": "relative difference",
            "reason": "CS231n calls 1e-2 wrong. Measured: wrong backwards differ by 0.33 or more, honest ones in "
            "float64 by less than 1e-6, and in float32 by less than 1e-3.",
        },
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each Function."""
        for verification in recording.verifications:
            wrong = [each for each in verification.derivatives if each.error > self.limit]
            if recording.failure is not None:  # a shape that autograd has refused has been told with the exception
                wrong = [each for each in wrong if each.directions]
            if wrong:
                yield self._found(verification, wrong)

    def _found(self, verification: Verification, wrong: Sequence[Derivative]) -> Finding:
        meant = verification.identity or verification.rounds
        function, names = verification.function, _listed([each.name for each in wrong])
        if meant:
            message, why, fix = _deliberate(verification, wrong, names)
        else:
            message = _message(function, wrong, names)
            why = "nothing fails, but what it belongs to and everything before it is trained in a wrong direction"
            fix = "; ".join(dict.fromkeys(map(_fix, wrong)))
        return self.finding(
            severity=Severity.NOTE if meant else Severity.ERROR,
            step=verification.step,
            message=message,
            evidence=self._evidence(verification, wrong),
            table=_table(wrong) if len(wrong) > 1 else (),
            why=why,
            fix=fix,
            sites=(verification.module,) if verification.module else (),
            location=verification.location,
            cause=f"{function} in {verification.module}",
        )

    def _evidence(self, verification: Verification, wrong: Sequence[Derivative]) -> str:
        worst = max(wrong, key=lambda each: each.error)
        if not worst.directions:
            return f"the backward returned {_shape(worst.returned)}, {worst.name!r} is {_shape(worst.expected)}"
        shapes = _shapes(worst) if len(wrong) == 1 else ""
        subject = "it differs" if len(wrong) == 1 else f"{worst.name!r} differs"
        return (
            f"{subject} by {worst.error:.3g} from finite differences in {worst.directions} directions in "
            f"{verification.dtype} (limit {self.limit:g}, relative){shapes}"
        )


def _message(function: str, wrong: Sequence[Derivative], names: str) -> str:
    if len(wrong) > 1:
        return f"the gradients that {function} gives {names} are wrong"
    return f"the gradient that {function} gives {names} {_fault(wrong[0])}"


def _deliberate(verification: Verification, wrong: Sequence[Derivative], names: str) -> tuple[str, str, str]:
    """Message, reason and fix of a gradient that may be meant."""
    function = verification.function
    if verification.identity:
        change = _change(wrong[0], verification.step) if len(wrong) == 1 else "changes its gradients"
        return (
            f"{function} returns its input as it is, and {change}",
            "gradient reversal, scaling and clipping do this on purpose",
            f"{MEANT}; otherwise return the incoming gradient from backward",
        )
    return (
        f"{function} rounds or jumps, and gives {names} a gradient of its own: a straight-through estimator",
        "the derivative of what rounds is zero or undefined, so this gradient is an approximation by design",
        f"{MEANT}; otherwise return the derivative of the forward from backward",
    )


def _fault(wrong: Derivative) -> str:
    """What is wrong, in words that continue "the gradient ..."."""
    if not wrong.directions:
        return "has the transposed shape" if wrong.transposed else "has a shape that does not fit"
    if wrong.transposed:
        return "is transposed"
    if wrong.missing:
        return "is missing (None)"
    if not wrong.computed:
        return "is zero"
    return _disproportion(wrong.factor) if wrong.factor is not None else "disagrees with finite differences"


def _disproportion(factor: float) -> str:
    if abs(factor + 1) < 1e-3:  # noqa: PLR2004  as exactly as single precision can tell
        return "has the wrong sign"
    return f"is {factor:.4g} times what it should be: a factor of {1 / factor:.4g} is missing"


def _change(wrong: Derivative, step: int) -> str:
    """What an identity does to its gradient, in the step in which it was called again: a factor may grow later."""
    if wrong.missing:
        return f"stops the gradient of {wrong.name!r}"
    if not wrong.computed:
        return f"multiplies the gradient of {wrong.name!r} by 0 in step {step}"
    if wrong.factor is None:
        return f"changes the gradient of {wrong.name!r}"
    reversal = ": gradient reversal" if wrong.factor < 0 else ""
    return f"multiplies the gradient of {wrong.name!r} by {wrong.factor:.4g}{reversal}"


def _fix(wrong: Derivative) -> str:
    name = repr(wrong.name)
    if wrong.transposed:
        return f"return its transpose for {name}: gradient.transpose(-2, -1)"
    if not wrong.directions:
        return f"return a gradient of shape {_shape(wrong.expected)} for {name}"
    if wrong.missing or not wrong.computed:
        return f"return the gradient of {name} from backward: it has an effect on the result"
    if wrong.factor is not None:
        return f"multiply the gradient of {name} by {1 / wrong.factor:.4g}"
    return f"derive the gradient of {name} anew: the incoming gradient times the derivative"


def _table(wrong: Sequence[Derivative]) -> tuple[tuple[str, ...], ...]:
    head = ("argument", "shape", "returned", "difference", "what")
    return (head, *((w.name, _shape(w.expected), _returned(w), f"{w.error:.3g}", f"it {_fault(w)}") for w in wrong))


def _returned(wrong: Derivative) -> str:
    return "None" if wrong.missing else _shape(wrong.returned)


def _shapes(wrong: Derivative) -> str:
    differ = wrong.returned is not None and wrong.returned != wrong.expected
    return f"; it was returned as {_shape(wrong.returned)} for {_shape(wrong.expected)}" if differ else ""


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else str(list(shape))


def _listed(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
