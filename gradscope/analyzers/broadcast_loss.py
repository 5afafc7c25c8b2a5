"""A column met a row in the loss, and each prediction was compared with every target."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, zip_longest
from math import prod
from typing import ClassVar, TypeAlias

from gradscope.analyzer import Analyzer
from gradscope.dataflow import DETACHING, VIEWS, Flow, expression, flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.traces import Location, Operand, Operation

Shape: TypeAlias = tuple[int, ...]

# Losses that compare two tensors element by element.
LOSSES = frozenset(
    {"binary_cross_entropy", "binary_cross_entropy_with_logits", "dist", "gaussian_nll_loss", "hinge_embedding_loss"}
    | {"huber_loss", "kl_div", "l1_loss", "mse_loss", "poisson_nll_loss", "smooth_l1_loss"}
)
DIFFERENCES = frozenset({"rsub", "sub", "subtract"})
SUMS = DIFFERENCES | {"add"}
COMPARISONS = frozenset({"eq", "ge", "gt", "le", "lt", "ne"})
MEETING = frozenset(
    {"broadcast_tensors", "div", "divide", "lerp", "max", "maximum", "min", "minimum", "mul", "multiply", "where"}
    | {*COMPARISONS, *LOSSES, *SUMS, "true_divide", "xlogy"}
)

# From there to the loss: each element for itself, then all of them together.
ELEMENTWISE = frozenset(
    {*DETACHING, *MEETING, *VIEWS, "abs", "absolute", "bool", "clamp", "clamp_max", "clamp_min", "clip", "cos", "cosh"}
    | {"elu", "exp", "exp2", "expm1", "hardtanh", "invert", "leaky_relu", "log", "log10", "log1p", "log2"}
    | {"log_sigmoid", "logical_and", "logical_not", "logical_or", "logsigmoid", "masked_fill", "nan_to_num", "neg"}
    | {"negative", "pow", "reciprocal", "relu", "rsqrt", "sigmoid", "sign", "sin", "softplus", "sqrt", "square", "tanh"}
)
POOLING = frozenset({"linalg_norm", "linalg_vector_norm", "mean", "nanmean", "nansum", "norm", "std", "sum", "var"})
POOLED = POOLING | VIEWS | {"div", "mul", "neg", "sqrt"}

# A mean comes through them as it is: of all pairs, or of the ones that were meant.
LINEAR = SUMS | VIEWS | {"mean", "nanmean", "neg", "negative"}

# Points that no sample of a batch stands for.
GRIDS = frozenset({"arange", "linspace", "logspace"})

# How a column is written.
UPRIGHT = re.compile(r"unsqueeze\(|None\]|(?:view|reshape)\([^()]*, ?1\)")

COMPARED = "compared", "every prediction is drawn to the mean of all targets"
COMBINED = "combined", "each sample counts with the numbers of all others, and only its own were meant"


@dataclass(frozen=True, slots=True)
class Meeting:
    """An operation that broadcasts a column and a row to `shape`."""

    operation: Operation
    column: Operand
    row: Operand
    shape: Shape


@dataclass(frozen=True, slots=True)
class Way:
    """The operations that pairs pass on their way to a loss, up to a mean or a sum of them.

    `joined`: a column or a row with a graph is added. `linear`: all pairs come to the same as the ones meant.
    """

    passed: frozenset[int] = frozenset()
    joined: bool = False
    linear: bool = False


@dataclass(frozen=True)
class BroadcastLoss(Analyzer):
    """Predictions of shape (N, 1) met targets of shape (N,), or the other way round: the loss compares (N, N) pairs.

    ## What it means
    Two tensors of different shapes are broadcast: a column of N numbers and a row of N numbers make a square of
    N x N differences, of which only the diagonal was meant.

    ## Why it matters
    Every prediction is drawn to the mean of all targets. The loss falls a little and stays there; the model
    learns the mean. With weights, rewards or masks instead of targets, each sample is weighted by all others.

    ## How it is measured
    In a traced step, a regression loss, or arithmetic written by hand, has two operands of which one has the
    other's shape and a last dimension of 1 more, so that its result has more elements than either. One of them
    has a graph, or something of their shapes with a graph is added later (a target computed without grad mode).
    The result goes into the loss element by element and through means, sums or norms.

    ## What it is not
    All pairs on purpose: both operands come from the same tensor (a ranking loss), one of them is compared with
    itself elsewhere (the energy distance), the column was made by `unsqueeze`, `[:, None]` or `view` in the
    expression that uses it, or the pairs meet others that were made on purpose (a mask, a matrix product).
    Pairs that go through anything but elementwise operations (a softmax, a minimum, a product); a parameter or
    a grid as one of the two; quantiles, where a column of targets meets a row of another length; a sum or a
    difference of which only the mean is taken, which is the same for all pairs.

    ## How to fix it
    Give both the same shape: `prediction.squeeze(-1)`, or `target.unsqueeze(-1)`.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> prediction, target = Operand((32, 1), 0, has_graph=True), Operand((32,))
    >>> trace = [
    ...     Operation(0, "linear", "head", shapes=((32, 1),), has_graph=True),
    ...     Operation(1, "mse_loss", operands=(prediction, target), shapes=((),), has_graph=True, is_loss=True),
    ... ]
    >>> for found in BroadcastLoss().analyze(recording(operations=trace)):
    ...     print(found)
    ERROR    broadcast-loss   since step 0   'head'
             mse_loss broadcasts (32, 1) and (32,) to (32, 32): each of 32 is compared with all 32
             measured: (32, 1) is the result of linear in 'head'; (32,) was made before the model ran
             why: every prediction is drawn to the mean of all targets
             fix: give both the same shape, with .squeeze(-1) on (32, 1) or .unsqueeze(-1) on (32,)

    ## Silent on
    >>> trace[1] = Operation(1, "mse_loss", operands=(prediction, Operand((32, 1))), has_graph=True, is_loss=True)
    >>> list(BroadcastLoss().analyze(recording(operations=trace)))
    []

    ## Sources
    - PyTorch, "Broadcasting semantics", https://docs.pytorch.org/docs/stable/notes/broadcasting.html
    - torch warns in `mse_loss`, `l1_loss`, `smooth_l1_loss` and `huber_loss`, and not in losses written by hand.
    """

    severity: ClassVar[Severity] = Severity.ERROR

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each operation that broadcasts, and none for others that its pairs meet."""
        yield from flow_of(recording.operations).once(self._judge)

    def _judge(self, flow: Flow) -> Iterator[Finding]:
        causes, explained = set[str](), set[int]()
        for meeting, way in _astray(flow, flow.operations):
            finding = self._found(flow, meeting)
            made = {each.operation for each in (meeting.column, meeting.row) if each.operation is not None}
            if finding.cause not in causes and explained.isdisjoint(way.passed | made):
                yield finding
            causes.add(finding.cause)
            explained |= way.passed | made

    def _found(self, flow: Flow, meeting: Meeting) -> Finding:
        operation, column, row = meeting.operation, meeting.column, meeting.row
        origins = [_origin(flow, operand) for operand in (column, row)]
        count, others = prod(row.shape), prod(meeting.shape) // prod(row.shape)
        verb, why = COMPARED if operation.name in LOSSES | DIFFERENCES else COMBINED
        return self.finding(
            step=operation.step,
            message=f"{operation.name} broadcasts {column.shape} and {row.shape} to {meeting.shape}: "
            f"each of {count} is {verb} with {'all ' if count == others else ''}{others}",
            evidence=f"{column.shape} {_made(flow, column)}; {row.shape} {_made(flow, row)}",
            why=why,
            fix=f"give both the same shape, with .squeeze(-1) on {column.shape} or .unsqueeze(-1) on {row.shape}",
            sites=tuple(dict.fromkeys(origin.module for origin in origins if origin is not None and origin.module)),
            location=operation.location,
            cause=f"{operation.name} at {operation.location}",
        )


def _astray(flow: Flow, operations: Sequence[Operation]) -> Iterator[tuple[Meeting, Way]]:
    """The meetings that nobody meant, with the way of their pairs to the loss."""
    met = [meeting for each in operations if each.index in flow.toward_loss for meeting in _meetings(each)]
    paired = _paired(flow, operations) if met else ()
    met = [meeting for meeting in met if _size(meeting.operation) == 1 or not _meant(flow, meeting, paired)]
    squares = _squares(operations, met)
    for meeting in met:
        way = None if meeting.operation.name in COMPARISONS else _way(flow, meeting, squares)
        if way is not None and not way.linear and (way.joined or meeting.column.has_graph or meeting.row.has_graph):
            yield meeting, way


def _meetings(operation: Operation) -> Iterator[Meeting]:
    """The first two operands of which one has the other's shape and a last dimension of 1 more, if they broadcast."""
    operands = operation.operands[: 2 if operation.name in LOSSES else None] if operation.name in MEETING else ()
    for column, row in permutations(operands, 2):
        shape = _broadcast(column.shape, row.shape)
        if column.shape == (*row.shape, 1) and prod(shape) > prod(column.shape):
            yield Meeting(operation, column, row, shape)
            return


def _paired(flow: Flow, operations: Sequence[Operation]) -> frozenset[int]:
    """Indices of the operations whose results meet themselves somewhere, each element with all others."""
    found = set[int]()
    for operation in operations:
        for one, other in permutations(operation.operands if operation.name in MEETING else (), 2):
            origin = _origin(flow, one)
            more = prod(_broadcast(one.shape, other.shape)) > max(prod(one.shape), prod(other.shape))
            if more and origin is not None and origin is _origin(flow, other):
                found.add(origin.index)
    return frozenset(found)


def _meant(flow: Flow, meeting: Meeting, paired: Collection[int]) -> bool:
    """Whether all pairs are wanted, or what meets is not a batch."""
    for operand in (meeting.column, meeting.row):
        origin = _origin(flow, operand)
        parameter = operand.parameter or any(given.parameter for _, given in _views(flow, operand))
        if parameter or (origin is not None and (origin.index in paired or origin.name in GRIDS)):
            return True
    no_graph = not (meeting.column.has_graph or meeting.row.has_graph)
    set_up = _set_up(flow, meeting.column)
    if set_up is None:  # on the right of this expression the model may have run, which begins the trace
        return meeting.column.operation is None and bool(UPRIGHT.search(expression(meeting.operation)))
    return no_graph or _together(set_up.location, meeting.operation.location)


def _squares(operations: Sequence[Operation], met: Sequence[Meeting]) -> frozenset[int]:
    """Indices of the operations whose results hold the pairs of these meetings."""
    found = {meeting.operation.index for meeting in met}
    for operation in operations:
        held = [prod(each.shape) for each in operation.operands if each.operation in found]
        if operation.name.rstrip("_") in ELEMENTWISE and any(_size(operation) == size for size in held):
            found.add(operation.index)
    return frozenset(found)


def _way(flow: Flow, meeting: Meeting, squares: Collection[int]) -> Way | None:
    """How the pairs come into the loss; None where that takes more than elementwise operations and means or sums."""
    start, size = meeting.operation, prod(meeting.shape)
    stack, users, pooled = [start] if _size(start) > 1 else [], dict[int, Operation](), set[int]()
    while stack:
        current = stack.pop()
        for user in flow.consumers.get(current.index, ()):
            if user.index in users or user.index not in flow.toward_loss:
                continue
            if not (user.name in POOLED if current.index in pooled else _takes(flow, user, size, squares)):
                return None
            users[user.index] = user
            pooled |= {user.index} if current.index in pooled or _size(user) < size else set()
            stack += [user] if _size(user) > 1 else []
    given = [each for user in users.values() for each in user.operands if each.operation not in squares]
    joined = any(each.has_graph and each.shape in (meeting.column.shape, meeting.row.shape) for each in given)
    others = [user for user in users.values() if user.name not in LINEAR]
    scaled = all(
        user.name in ("div", "mul") and sum(bool(each.shape) for each in user.operands) <= 1 for user in others
    )
    return Way(frozenset({start.index, *users}) - pooled, joined, start.name in SUMS and scaled)


def _takes(flow: Flow, user: Operation, size: int, squares: Collection[int]) -> bool:
    """Whether an operation takes the pairs one by one or all together, and no others that were made on purpose."""
    makers = [flow.origin(each) for each in user.operands if prod(each.shape) >= size and each.operation not in squares]
    if any(maker is None or maker.operands or not maker.name.endswith("_like") for maker in makers):
        return False
    each = user.name.rstrip("_") in ELEMENTWISE and _size(user) == size
    return each or user.name in POOLING or (user.name in LOSSES and _size(user) == 1)


def _origin(flow: Flow, operand: Operand) -> Operation | None:
    """What computed an operand, seen through views, detach() and the broadcasting in torch's distributions."""
    origin = flow.origin(operand)
    seen_through = origin if origin is not None and origin.name in DETACHING | {"broadcast_tensors"} else None
    given = [each for each in seen_through.operands if each.shape] if seen_through is not None else []
    return _origin(flow, given[0]) if len(given) == 1 else origin


def _views(flow: Flow, operand: Operand) -> Iterator[tuple[Operation, Operand]]:
    """The views that an operand is seen through, each with what it was given."""
    view = flow.by_index.get(-1 if operand.operation is None else operand.operation)
    if view is not None and view.name in VIEWS and view.operands:
        yield view, view.operands[0]
        yield from _views(flow, view.operands[0])


def _set_up(flow: Flow, column: Operand) -> Operation | None:
    """The view that has made a column of something else, all of it."""
    whole = ((view, given) for view, given in _views(flow, column) if prod(given.shape) == prod(column.shape))
    return next((view for view, given in whole if given.shape[-1:] != (1,)), None)


def _together(one: Location | None, other: Location | None) -> bool:
    """Whether two operations stand in one expression, which may go on in the next line."""
    if one is None or other is None or (one.file, one.function) != (other.file, other.function):
        return False
    first, second = sorted((one, other), key=lambda place: place.line)
    goes_on = first.source[-1:] in tuple("([{,+-*/\\") or second.source[:1] in tuple("+-*/).")
    return second.line == first.line or (second.line == first.line + 1 and goes_on)


def _broadcast(one: Shape, other: Shape) -> Shape:
    """What two shapes that fit are broadcast to."""
    return tuple(max(sizes) for sizes in zip_longest(one[::-1], other[::-1], fillvalue=1))[::-1]


def _size(operation: Operation) -> int:
    return prod(operation.shapes[0]) if operation.shapes else 1


def _made(flow: Flow, operand: Operand) -> str:
    origin, view = _origin(flow, operand), _set_up(flow, operand) if operand.shape[-1:] == (1,) else None
    column = f", and a column since {view.name} at {view.location}" if view is not None and view.location else ""
    if origin is None:
        return f"{f'is {operand.parameter!r}' if operand.parameter else 'was made before the model ran'}{column}"
    module = f" in {origin.module!r}" if origin.module else ""
    return f"is the result of {origin.name}{module}{f' at {origin.location}' if origin.location else ''}{column}"
