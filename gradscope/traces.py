"""What a closer look showed: traced operations, verified gradients, the exception that ended the run. Frozen data."""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the user's program.

    `source` is its text without indentation, `column` and `end` are where in it the expression stands that ran
    (0 and 0 when that is not known).
    """

    file: str
    line: int
    function: str = ""
    source: str = ""
    column: int = 0
    end: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Range(NamedTuple):
    """The smallest and the largest element of a tensor; both are NaN where it holds NaN."""

    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Whether the tensor holds neither NaN nor Inf."""
        return isfinite(self.low) and isfinite(self.high)


class Operand(NamedTuple):
    """A tensor that an operation used.

    `operation` is the index of the operation that made it, None when it is not of this trace. `parameter` is its
    full name, if it is one. `has_graph` says that it required grad. `name` is that of the argument, where an
    autograd Function has named it. `stranger` numbers the tensors that are none of these, in the order in which they
    appeared; 0 is any other.
    """

    shape: tuple[int, ...] = ()
    operation: int | None = None
    parameter: str = ""
    has_graph: bool = False
    name: str = ""
    stranger: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One traced call of a torch function, or of an autograd Function as a whole.

    Attributes:
        index: its number in the trace.
        name: as torch calls it ("linear", "__getitem__", "data"); of an autograd Function, its class's name.
        module: path of the innermost module whose forward ran it; "" outside and in the root.
        location: the user's line.
        step: the step it ran in.
        operands: the tensors it used, in the order of its arguments.
        shapes: of its results.
        has_graph: whether a result requires grad.
        differentiable: whether a result has a dtype that could (floating or complex).
        grad_enabled: whether grad mode was on.
        is_loss: whether `backward()` was called on its result.
        function: the autograd Function that this is, or inside of whose forward it ran.
        written: full name of the parameter that it wrote in place.
        values: what its results held; None where that was not measured.
        gradient: what the gradient of the loss with respect to its result held; None where none arrived.
        backward: how many operations had run when `backward()` was last called on its result; None if it never was.
        reduction: what it was told to make of a loss for each element ("mean", "sum", "none"); "" if nothing.
    """

    index: int
    name: str
    module: str = ""
    location: Location | None = None
    step: int = 0
    operands: tuple[Operand, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    has_graph: bool = False
    differentiable: bool = True
    grad_enabled: bool = True
    is_loss: bool = False
    function: str = ""
    written: str = ""
    values: Range | None = None
    gradient: Range | None = None
    backward: int | None = None
    reduction: str = ""

    @property
    def sources(self) -> tuple[int, ...]:
        """The operations whose results it used, each once."""
        return tuple(dict.fromkeys(each.operation for each in self.operands if each.operation is not None))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters it used directly."""
        return tuple(each.parameter for each in self.operands if each.parameter)

    @property
    def had_graph(self) -> bool:
        """Whether an operand required grad."""
        return any(each.has_graph for each in self.operands)


@dataclass(frozen=True, slots=True)
class Derivative:
    """The gradient that a function gives one of its inputs, held against finite differences.

    Attributes:
        name: of the argument or parameter.
        error: relative difference of the directional derivatives, 0.0 when they are equal.
        directions: how many were tried; 0 where autograd refuses the gradient's shape, so that nothing was compared.
        measured: norm of the finite differences.
        computed: norm of what the backward gives in the same directions.
        factor: `computed` is this multiple of `measured` in every direction; None when it is not.
        transposed: the transposed gradient agrees.
        missing: the backward gives None.
        expected: shape of the input.
        returned: shape of what the backward returned, before autograd summed it to the input's; None if not seen.
    """

    name: str
    error: float
    directions: int = 2
    measured: float = 1.0
    computed: float = 1.0
    factor: float | None = None
    transposed: bool = False
    missing: bool = False
    expected: tuple[int, ...] = ()
    returned: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """An autograd Function or a module whose gradients were held against finite differences.

    `identity` says that it returns its input unchanged, `rounds` that its forward uses an operation whose
    derivative is zero almost everywhere: then a gradient of its own is what it is there for.
    """

    function: str
    module: str = ""
    step: int = 0
    location: Location | None = None
    dtype: str = "float64"
    identity: bool = False
    rounds: bool = False
    derivatives: tuple[Derivative, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that left the user's forward or backward, as data.

    `operands` are the tensors at hand, by name; `expected` and `got` are shapes, when the message names them.
    `failed` is the traced operation that raised, `position` the number of the input whose gradient was wrong.
    """

    step: int
    phase: str
    module: str
    message: str
    operation: str = ""
    operands: tuple[tuple[str, tuple[int, ...]], ...] = ()
    expected: tuple[int, ...] | None = None
    got: tuple[int, ...] | None = None
    location: Location | None = None
    failed: Operation | None = None
    position: int | None = None
