"""A column met a row in the loss, and each prediction was compared with every target."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.dataflow import Flow, flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.traces import Operand, Operation

Shape = tuple[int, ...]

# Losses that compare two tensors element by element and broadcast them.
LOSSES = frozenset(
    {
        "gaussian_nll_loss",
        "hinge_embedding_loss",
        "huber_loss",
        "kl_div",
        "l1_loss",
        "mse_loss",
        "poisson_nll_loss",
        "smooth_l1_loss",
    }
)
DIFFERENCES = frozenset({"sub", "subtract", "rsub"})
COLUMNS = frozenset({"unsqueeze", "__getitem__", "view", "reshape"})

# From the differences to the loss: each element for itself, then all of them together.
ELEMENTWISE = frozenset(
    {"abs", "add", "clamp", "clamp_min", "cosh", "div", "exp", "float", "huber_loss", "log", "log1p", "maximum", "mul"}
    | {"neg", "pow", "relu", "smooth_l1_loss", "softplus", "sqrt", "square", "sub", "rsub", "where", "abs_", "pow_"}
)
REDUCTIONS = frozenset({"mean", "sum", "nanmean", "nansum"})


@dataclass(frozen=True)
class BroadcastLoss(Analyzer):
    """Predictions of shape (N, 1) met targets of shape (N,), or the other way round: the loss compares (N, N) pairs.

    ## What it means
    Two tensors of different shapes are broadcast: a column of N numbers and a row of N numbers make a square of
    N x N differences, of which only the diagonal was meant.

    ## Why it matters
    Every prediction is drawn to the mean of all targets. The loss falls a little and stays there; the model
    learns the mean.

    ## How it is measured
    In a traced step, a difference or a regression loss has two operands of which one has the other's shape and a
    last dimension of 1 more, so that its result has more elements than either, and that result goes into the
    loss element by element and through one mean or sum.

    ## What it is not
    All pairs on purpose: both operands come from the same tensor (a ranking loss), or the column was made by
    `unsqueeze`, `[:, None]` or `view` on the same line (distances of two samples); differences that go through
    anything but elementwise operations on their way to the loss (a softmax, a product); quantiles, where a column
    of targets meets a row of another kind.

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
    - torch warns in `mse_loss`, `l1_loss`, `smooth_l1_loss` and `huber_loss`, and says nothing in other losses and
      differences written by hand.
    """

    severity: ClassVar[Severity] = Severity.ERROR

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each operation that broadcasts."""
        flow = flow_of(recording.operations)
        for operation in recording.operations:
            pair = _column_and_row(operation)
            if pair is not None and operation.index in flow.toward_loss and _unintended(flow, operation, *pair):
                yield self._found(flow, operation, *pair)

    def _found(self, flow: Flow, operation: Operation, column: Operand, row: Operand) -> Finding:
        result, count = (*row.shape, row.shape[-1]), row.shape[-1]
        makers = [flow.origin(operand) for operand in (column, row)]
        return self.finding(
            step=operation.step,
            message=f"{operation.name} broadcasts {column.shape} and {row.shape} to {result}: "
            f"each of {count} is compared with all {count}",
            evidence=f"{column.shape} {_made(makers[0])}; {row.shape} {_made(makers[1])}",
            why="every prediction is drawn to the mean of all targets",
            fix=f"give both the same shape, with .squeeze(-1) on {column.shape} or .unsqueeze(-1) on {row.shape}",
            sites=tuple(dict.fromkeys(maker.module for maker in makers if maker is not None and maker.module)),
            location=operation.location,
            cause=f"{operation.name} at {operation.location}",
        )


def _column_and_row(operation: Operation) -> tuple[Operand, Operand] | None:
    """The two operands if one has the other's shape and a last dimension of 1 more, and they are not one number."""
    if operation.name not in LOSSES | DIFFERENCES or len(operation.operands) < 2:  # noqa: PLR2004  a pair
        return None
    first, second = operation.operands[:2]
    column, row = (first, second) if len(first.shape) > len(second.shape) else (second, first)
    fits = column.shape == (*row.shape, 1) and row.shape[-1:] > (1,)
    return (column, row) if fits and (column.has_graph or row.has_graph) else None


def _unintended(flow: Flow, operation: Operation, column: Operand, row: Operand) -> bool:
    if operation.name in LOSSES:
        return True
    same = flow.origin(column) is not None and flow.origin(column) is flow.origin(row)
    return not same and not _made_here(flow, operation, column) and _pooled(flow, operation)


def _made_here(flow: Flow, operation: Operation, column: Operand) -> bool:
    """Whether the column was made a column on the line that uses it: then somebody wants all pairs."""
    maker = flow.by_index.get(-1 if column.operation is None else column.operation)
    return maker is not None and maker.name in COLUMNS and _line(maker) == _line(operation)


def _pooled(flow: Flow, operation: Operation) -> bool:
    """Whether its elements reach the loss each for itself, up to one mean or sum over all of them."""
    users = [each for each in flow.consumers.get(operation.index, ()) if each.index in flow.toward_loss]
    if not users:
        return operation.is_loss
    return all(
        (each.name in REDUCTIONS and _scalar(each)) or (each.name in ELEMENTWISE and _pooled(flow, each))
        for each in users
    )


def _scalar(operation: Operation) -> bool:
    return all(shape == () for shape in operation.shapes)


def _line(operation: Operation) -> tuple[str, int] | None:
    return (operation.location.file, operation.location.line) if operation.location else None


def _made(maker: Operation | None) -> str:
    if maker is None:
        return "was made before the model ran"
    module = f" in {maker.module!r}" if maker.module else ""
    return f"is the result of {maker.name}{module}{f' at {maker.location}' if maker.location else ''}"
