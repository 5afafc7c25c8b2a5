"""An operation or a custom backward failed on shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.dataflow import Flow, flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.shapes import remedy
from gradscope.traces import Derivative, Failure, Operand, Operation, Verification

LAYERS = {"linear": "features", "conv1d": "channels", "conv2d": "channels", "conv3d": "channels"}
SMALL = 1e-2


@dataclass(frozen=True)
class ShapeMismatch(Analyzer):
    """A forward or a backward raised because shapes do not fit; says where, which, and whether a transposition helps.

    ## What it means
    Two tensors met that cannot be multiplied, added or compared, or the backward of a custom
    `torch.autograd.Function` returned a gradient whose shape is not that of its input.

    ## Why it matters
    The loop stops there. PyTorch's message names the shapes, but rarely the module.

    ## How it is measured
    The exception that left the loop is read: which module ran, in which phase, and the shapes in its message.
    If exchanging two sizes of one operand would make them fit, the finding says so. If the step was traced, as
    the first one is, the operation that raised and its operands are known, each with the line that made it.

    A backward that returns too many dimensions raises nothing: autograd sums over what is too much. Where the
    result is right nevertheless, that is a note.

    ## What it is not
    Other exceptions: out of memory, wrong types or devices, and what the program raises itself. A transposition
    that would fit is a hint and no proof: equal sizes may be equal by chance.

    ## How to fix it
    Follow the hint, or print the shapes before the failing line. In a custom backward, each returned gradient
    has the shape of the input it belongs to.

    ## Fires on
    >>> from gradscope.traces import Failure
    >>> from gradscope.testing import recording
    >>> message = "mat1 and mat2 shapes cannot be multiplied (8x10 and 12x4)"
    >>> for found in ShapeMismatch().analyze(recording(failure=Failure(0, "forward", "fc2", message))):
    ...     print(found)
    ERROR    shape-mismatch   since step 0   'fc2'
             the forward of module 'fc2' failed on shapes
             measured: mat1 and mat2 shapes cannot be multiplied (8x10 and 12x4)
             fix: the inner sizes must be equal: 10 columns met 12 rows; no transposition makes them fit

    ## Silent on
    >>> list(ShapeMismatch().analyze(recording(failure=Failure(0, "forward", "fc2", "CUDA out of memory."))))
    []

    ## Sources
    - PyTorch, "Broadcasting semantics", https://docs.pytorch.org/docs/stable/notes/broadcasting.html
    - PyTorch, "Extending torch.autograd", https://docs.pytorch.org/docs/stable/notes/extending.html
    """

    severity: ClassVar[Severity] = Severity.ERROR
    every_step: ClassVar[bool] = True

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding, if an exception that speaks of shapes left the loop, and notes about silent sums."""
        failure = recording.failure
        fix = remedy(failure) if failure else ""
        if failure is not None and fix:
            call = _function(recording, failure)
            yield self._backward(failure, call, fix) if call else self._raised(recording, failure, fix)
        for verification in recording.verifications:
            for derivative in verification.derivatives:
                if derivative.returned not in (None, derivative.expected) and derivative.error < SMALL:
                    yield self._summed(verification, derivative)

    def _raised(self, recording: Recording, failure: Failure, fix: str) -> Finding:
        failed = failure.failed
        evidence = _first_line(failure.message)
        if failed is not None and failed.operands:
            flow = flow_of(recording.operations)
            evidence += "; given " + " and ".join(_described(flow, operand) for operand in failed.operands)
            fix = _for_layers(flow, failed, fix)
        elif failure.operands:
            evidence += "; at hand: " + ", ".join(f"{name} {list(shape)}" for name, shape in failure.operands)
        return self.finding(
            step=failure.step,
            message=f"the {failure.phase} of {_place(failure)} failed on shapes",
            evidence=evidence + _earlier(recording, failure),
            fix=fix,
            sites=(failure.module,) if failure.module else (),
            location=failure.location,
        )

    def _backward(self, failure: Failure, call: Operation, fix: str) -> Finding:
        """The backward of an autograd Function of the user's that was seen in the trace."""
        named = [operand.name for operand in call.operands if operand.name]
        known = failure.position is not None and failure.position < len(named)
        argument = repr(named[failure.position or 0]) if known else f"its input {failure.position}"
        gradient = "a transposed gradient" if "explains" in fix else "a gradient of wrong shape"
        return self.finding(
            step=failure.step,
            message=f"the backward of {call.name} returned {gradient} for {argument}",
            evidence=f"expected {list(failure.expected or ())}, got {list(failure.got or ())}",
            fix=fix,
            sites=(call.module,) if call.module else (),
            location=call.location,
        )

    def _summed(self, verification: Verification, derivative: Derivative) -> Finding:
        returned, expected = list(derivative.returned or ()), list(derivative.expected)
        return self.finding(
            severity=Severity.NOTE,
            step=verification.step,
            message=f"autograd sums the gradient that {verification.function} returns for {derivative.name!r}",
            evidence=f"it returned {returned}, the input is {expected}; the sum agrees with finite differences",
            fix=f"return the sum itself, with .sum_to_size({expected}): it costs less and says what is meant",
            sites=(verification.module,) if verification.module else (),
            location=verification.location,
            cause=f"{verification.function} {derivative.name}",
        )


def _function(recording: Recording, failure: Failure) -> Operation | None:
    """The call of the autograd Function whose backward raised."""
    name = failure.operation.removesuffix("Backward")
    calls = [each for each in recording.operations if name and each.name == each.function == name]
    return next((each for each in calls if each.module == failure.module), calls[0] if calls else None)


def _place(failure: Failure) -> str:
    operation = f" ({failure.operation})" if failure.operation else ""
    inside = bool(failure.operands) or (failure.location is not None and failure.location.function == "forward")
    place = "the model itself" if inside else "what runs outside of the model's modules"
    return (f"module {failure.module!r}" if failure.module else place) + operation


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0].rstrip(".")


def _described(flow: Flow, operand: Operand) -> str:
    """An operand with its shape and its origin."""
    shape = list(operand.shape)
    if operand.parameter:
        return f"{operand.parameter} {shape}"
    maker = None if operand.operation is None else flow.by_index.get(operand.operation)
    if maker is None:
        return f"{shape} from outside"
    module = f" in {maker.module!r}" if maker.module else ""
    return f"{shape} made by {maker.name}{module}{f' at {maker.location}' if maker.location else ''}"


def _for_layers(flow: Flow, failed: Operation, fix: str) -> str:
    """Which of two layers to change, where one was given what another one made."""
    word = LAYERS.get(failed.name)
    parameter = next((each for each in failed.operands if each.parameter.endswith("weight")), None)
    if word is None or parameter is None or "explains" in fix or "exchanged" in fix:
        return fix
    across = 1 if failed.name != "linear" else -1
    given, takes = failed.operands[0].shape[across], parameter.shape[1]
    name = parameter.parameter.rpartition(".")[0]
    before = _layer_before(flow, failed, across, given)
    alike = before is not None and bool(before.module) and LAYERS[before.name] == word
    other = f", or out_{word}={takes} of {before.module!r}" if before is not None and alike else ""
    return f"{name!r} takes {takes} {word} and was given {given}: set in_{word}={given} of {name!r}{other}"


def _layer_before(flow: Flow, operation: Operation, across: int, size: int) -> Operation | None:
    """The layer of the same sort that gave a size to an operation, if all between the two have kept it."""
    source = operation.operands[0].operation if operation.operands else None
    before = None if source is None else flow.by_index.get(source)
    if before is None or (before.name not in LAYERS and not _keeps(before, across, size)):
        return None
    return before if before.name in LAYERS else _layer_before(flow, before, across, size)


def _keeps(operation: Operation, across: int, size: int) -> bool:
    return not operation.shapes or any(
        len(shape) > across and shape[across] == size for shape in operation.shapes if shape
    )


def _earlier(recording: Recording, failure: Failure) -> str:
    """What the same line was given in a step that was traced and did not fail."""
    place = failure.location
    for each in recording.operations if failure.failed is None and failure.phase == "forward" else ():
        if place and each.location and (each.location.file, each.location.line) == (place.file, place.line):
            shapes = " and ".join(str(list(operand.shape)) for operand in each.operands)
            return f"; in step {each.step} this line's {each.name} was given {shapes}" if shapes else ""
    return ""
