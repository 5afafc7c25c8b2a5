"""Where NaN or Inf was born among traced operations, and which operations can bear it. Pure functions."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isnan
from typing import TypeAlias

from gradscope.dataflow import Flow, expression
from gradscope.traces import Operation, Range

MOST_ROWS = 6

# They write infinities on purpose, or hand on those that were written.
MASKS = frozenset(
    {"masked_fill", "masked_fill_", "where", "full", "full_like", "fill_", "__setitem__", "tensor", "new_full", "zeros"}
    | {"triu", "tril", "triu_", "tril_", "index_fill_", "scatter_", "max_pool2d", "logical_not", "masked_scatter_"}
)

SPREAD_ADVICE = "give it at least two elements, or correction=0: one element has no spread"
CLASSES_ADVICE = "skip batches whose targets are all ignored, and rows whose logits are all -Inf"
WRITTEN_ADVICE = "leave such elements out before anything is computed from them: 0 times NaN is NaN in the backward"
WEIGHTS_ADVICE = "check with torch.isfinite(x).all() what {} is given, and its weights before the run"
ROOT_ADVICE = "add a small eps under the root: (x + eps).sqrt()"
LOG_ADVICE = "use log_softmax, logsigmoid or a fused loss, or clamp the argument: x.clamp(min=eps).log()"
DIVISION_ADVICE = "add a small eps to the denominator, or clamp it"
NORM_ADVICE = "use torch.linalg.vector_norm, or add a small eps under the root"
EDGE_ADVICE = "clamp the argument to (-1 + eps, 1 - eps)"
EXPONENT_ADVICE = "subtract the maximum before exp, or use logsumexp, softmax or softplus"
SOFTMAX_ADVICE = "a row whose positions are all masked has no softmax: leave one open, or skip such rows"
POWER_ADVICE = "add a small eps to the base: a fractional or negative power has no derivative at 0"
PRODUCT_ADVICE = "0 times Inf is NaN: keep the factor finite, with clamp or torch.where before it is computed"

ADVICE: dict[str, str] = {
    **dict.fromkeys(("sqrt", "sqrt_", "rsqrt", "rsqrt_", "cdist", "pairwise_distance"), ROOT_ADVICE),
    **dict.fromkeys(("std", "var"), SPREAD_ADVICE),
    **dict.fromkeys(("cross_entropy", "nll_loss"), CLASSES_ADVICE),
    **dict.fromkeys(("log", "log_", "log2", "log10", "log1p", "logit", "xlogy", "digamma", "lgamma"), LOG_ADVICE),
    **dict.fromkeys(("div", "div_", "true_divide", "truediv", "truediv_", "reciprocal", "fmod"), DIVISION_ADVICE),
    **dict.fromkeys(("norm", "vector_norm", "linalg_vector_norm", "normalize", "cosine_similarity"), NORM_ADVICE),
    **dict.fromkeys(("acos", "asin", "atanh", "acosh", "arccos", "arcsin", "erfinv"), EDGE_ADVICE),
    **dict.fromkeys(("exp", "exp_", "expm1", "exp2", "cosh", "sinh"), EXPONENT_ADVICE),
    **dict.fromkeys(("softmax", "log_softmax", "scaled_dot_product_attention"), SOFTMAX_ADVICE),
    **dict.fromkeys(("multi_head_attention_forward",), SOFTMAX_ADVICE),
    **dict.fromkeys(("pow", "pow_", "float_power", "rpow"), POWER_ADVICE),
    **dict.fromkeys(("mul", "mul_"), PRODUCT_ADVICE),
}

# Those that make NaN or Inf out of ordinary numbers; a product needs an Inf first.
EDGED = frozenset(ADVICE) - {
    *("cross_entropy", "nll_loss", "softmax", "log_softmax", "scaled_dot_product_attention"),
    *("multi_head_attention_forward", "mul", "mul_", "std", "var", "div_", "log1p"),
}
QUOTIENTS = frozenset({"div", "true_divide", "truediv", "truediv_"})
NUMBER_ABOVE = re.compile(r"[\d.]+(?:e-?\d+)?\s*/")
SOFTMAXES = frozenset({"log_softmax", "softmax"})


Table: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Birth:
    """The operation that made a value that is not finite, in its forward or, with `backward`, in its backward.

    `table` are the last values before it, in the order in which they were computed.
    """

    operation: Operation
    word: str
    backward: bool = False
    table: Table = ()


def birth(flow: Flow, step: int, parameters: Collection[str] = ()) -> Birth | None:
    """Where the first NaN or Inf of a traced step was born; None where all that was measured is finite.

    `parameters` are those whose gradient was not finite in that step.
    """
    return _in_forward(flow, step) or _in_backward(flow, step, parameters)


def candidates(operations: Iterable[Operation], *, graphless: bool = False) -> tuple[Operation, ...]:
    """Those that can bear NaN or Inf from ordinary numbers; of equal ones on one line only the first.

    With `graphless`, also what is computed from data alone: it can bear them in a forward, and in no backward.
    """
    found: dict[object, Operation] = {}
    seen: dict[int, Operation] = {}
    for operation in operations:
        seen[operation.index] = operation
        if _is_edged(operation, seen) and (operation.had_graph or graphless):
            found.setdefault((operation.location, operation.name), operation)
    return tuple(found.values())


def _is_edged(operation: Operation, before: Mapping[int, Operation]) -> bool:
    """Where what is divided is no number, the number is below; a softmax needs a row that is masked."""
    if operation.name in QUOTIENTS and len(operation.operands) == 1:
        text = expression(operation)
        return "/" not in text or NUMBER_ABOVE.match(text) is not None
    makers = (before[source] for source in operation.sources if source in before)
    return operation.name in EDGED or (operation.name in SOFTMAXES and any(map(_writes_inf, makers)))


def _writes_inf(operation: Operation) -> bool:
    return operation.values is not None and operation.values.low == -inf


def advice(operation: Operation) -> str:
    """What to do about an operation."""
    if operation.function and operation.function == operation.name:
        return f"look into the forward and the backward of {operation.name} for a division, a root or a logarithm at 0"
    if operation.name in MASKS:
        return WRITTEN_ADVICE
    other = WEIGHTS_ADVICE.format(operation.name) if operation.parameters else f"look at what {operation.name} is given"
    return ADVICE.get(operation.name, other)


def row(label: str, low: float, high: float) -> tuple[str, ...]:
    """A row of a table."""
    return label, f"{low:.3g}", f"{high:.3g}"


def _in_forward(flow: Flow, step: int) -> Birth | None:
    before: list[Operation] = []
    for operation in flow.operations:
        if operation.step == step and operation.index in flow.toward_loss and operation.values is not None:
            word = _born(flow, operation)
            before.append(operation)
            if word:
                return Birth(operation, word, table=_table((_label(each), each.values) for each in before))
    return None


def _born(flow: Flow, operation: Operation) -> str:
    """Which of the two words an operation's result is the first to hold; "" for neither.

    Infinities count only where NaN or an infinite loss follows: a mask of -Inf comes to nothing in a softmax.
    """
    if operation.values is None or operation.values.finite or not _sound(flow, operation):
        return ""
    if isnan(operation.values.low):
        return "NaN"
    return "Inf" if operation.name not in MASKS and _ends_badly(flow, operation) else ""


def _sound(flow: Flow, operation: Operation) -> bool:
    """Whether all that it was computed from was finite, or an Inf that is no fault by itself."""
    makers = [flow.by_index[source] for source in operation.sources if source in flow.by_index]
    return all(each.values is None or each.values.finite or _meant(flow, each) for each in makers)


def _meant(flow: Flow, operation: Operation) -> bool:
    nan = operation.values is not None and isnan(operation.values.low)
    return not nan and (operation.name in MASKS or not _ends_badly(flow, operation))


def _ends_badly(flow: Flow, operation: Operation) -> bool:
    """Whether what is computed from it holds NaN, or an infinite loss."""
    after = [each for each in flow.downstream([operation]) if each.index in flow.toward_loss]
    bad = [(each, each.values) for each in after if each.values is not None and not each.values.finite]
    return any(isnan(values.low) or each.is_loss for each, values in bad)


def _in_backward(flow: Flow, step: int, parameters: Collection[str]) -> Birth | None:
    """An operation whose own gradient is finite, while what it hands on is not; the nearest to the loss."""
    for operation in reversed(flow.operations):
        gradient = operation.gradient
        if operation.step == step and gradient is not None and not gradient.finite:
            culprits = [each for each in _users(flow, operation) if each.gradient is not None and each.gradient.finite]
            if culprits:
                word = "NaN" if isnan(gradient.low) else "Inf"
                return _backward(flow, culprits, word, (f"what it gives {_label(operation)}", gradient))
    culprits = [each for path in parameters for _, each in flow.uses.get(path, ()) if _is_culprit(each, step)]
    return _backward(flow, culprits, "NaN or Inf", None) if culprits else None


def _is_culprit(operation: Operation, step: int) -> bool:
    return operation.step == step and operation.gradient is not None and operation.gradient.finite


def _backward(flow: Flow, culprits: list[Operation], word: str, last: tuple[str, Range] | None) -> Birth:
    culprit = next((each for each in culprits if each.name in ADVICE), culprits[0])
    after = sorted(flow.downstream([culprit]), key=lambda each: each.index)
    rows = [(_label(each), each.gradient) for each in reversed(after)]
    return Birth(culprit, word, backward=True, table=_table([*rows, *([last] if last else [])]))


def _users(flow: Flow, operation: Operation) -> Iterator[Operation]:
    """The operations whose backward makes an operation's gradient, seen through those that were not measured."""
    for operand, user in flow.edges.get(operation.index, ()):
        if operand.has_graph and user.gradient is None:
            yield from _users(flow, user)
        elif operand.has_graph:
            yield user


def _label(operation: Operation) -> str:
    place = f" {operation.location}" if operation.location else ""
    return f"{operation.name}{place}"


def _table(values: Iterable[tuple[str, Range | None]]) -> Table:
    measured = [row(label, *held) for label, held in values if held is not None]
    return (("last values", "min", "max"), *measured[-MOST_ROWS:])
