"""A loss was given what another loss takes: probabilities for logits, logits for log-probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import e, log
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.dataflow import Flow, flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.traces import Operand, Operation

SOFTMAX = frozenset({"gumbel_softmax", "softmax", "softmin", "special_softmax"})
PROBABILITIES = SOFTMAX | {"hardsigmoid", "sigmoid", "sigmoid_", "special_expit"}
LAYERS = frozenset(
    {"addmm", "baddbmm", "bilinear", "bmm", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"}
    | {"conv_transpose3d", "einsum", "linear", "matmul", "mm"}
)
JOINING = frozenset({"cat", "concat", "concatenate", "hstack", "stack", "vstack"})

LOGITS, LOG_PROBABILITIES = "logits", "log-probabilities"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a loss takes, which operations give something else, and what to do then."""

    takes: str
    wrong: frozenset[str]
    fix: str


DROP = "drop the {}: {} itself, and more exactly"
SIGMOID_INSIDE = Rule(LOGITS, PROBABILITIES, DROP.format("{}", "the loss applies sigmoid"))
RULES = {
    "cross_entropy": Rule(LOGITS, PROBABILITIES, DROP.format("{}", "cross_entropy applies softmax")),
    "binary_cross_entropy_with_logits": SIGMOID_INSIDE,
    "multilabel_soft_margin_loss": SIGMOID_INSIDE,
    "log_softmax": Rule(LOGITS, SOFTMAX, "drop the {}: log_softmax is both, and more exact"),
    "nll_loss": Rule(
        LOG_PROBABILITIES,
        PROBABILITIES | LAYERS | {"relu", "relu_"},
        "use cross_entropy on the logits, or log_softmax before nll_loss",
    ),
    "kl_div": Rule(LOG_PROBABILITIES, PROBABILITIES | LAYERS, "use log_softmax for the first argument of kl_div"),
}
RULES["nll_loss_nd"] = RULES["nll_loss"]


@dataclass(frozen=True)
class LossInputMismatch(Analyzer):
    """A loss that takes logits was given probabilities, or one that takes log-probabilities was given something else.

    ## What it means
    `cross_entropy` and `binary_cross_entropy_with_logits` contain softmax and sigmoid. A model that ends with one
    of them squeezes its logits twice. `nll_loss` and `kl_div` take log-probabilities and compute nonsense, without
    an error, from anything else.

    ## Why it matters
    After a second softmax the loss cannot fall below log(e + C - 1) - 1, which is 1.46 for 10 classes, and its
    gradients are small: training looks slow and stays poor. `nll_loss` of probabilities ends at -1, of logits it
    falls without end.

    ## How it is measured
    In a traced step the loss's first operand is followed back through views, casts and concatenations to the
    operations that computed it. What they compute counts, not how it was written: exp divided by its sum is a
    softmax, and what its own logsumexp is subtracted from goes into a log_softmax.

    ## What it is not
    A teacher's probabilities as the target, which are the second operand; attention, or a mean of probabilities,
    somewhere before the last layer; a scale or a logarithm between softmax and the loss; `log_softmax` before
    `cross_entropy`, which changes nothing; a sigmoid before a squared error; operands without a graph.

    ## How to fix it
    End the model with the plain layer and use the loss that takes logits.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> logits, probabilities = Operand((8, 10), 0, has_graph=True), Operand((8, 10), 1, has_graph=True)
    >>> trace = [
    ...     Operation(0, "linear", "head", shapes=((8, 10),), has_graph=True),
    ...     Operation(1, "softmax", "last", operands=(logits,), shapes=((8, 10),), has_graph=True),
    ...     Operation(2, "cross_entropy", operands=(probabilities, Operand((8,))), has_graph=True, is_loss=True),
    ... ]
    >>> for found in LossInputMismatch().analyze(recording(operations=trace)):
    ...     print(found)
    ERROR    loss-input-mismatch   since step 0   'last'
             cross_entropy takes logits and was given the result of softmax in 'last'
             measured: its operand (8, 10) is softmax's result, seen through views and casts
             why: the loss cannot fall below log(e + 10 - 1) - 1 = 1.46, and its gradients are small
             fix: drop the softmax: cross_entropy applies softmax itself, and more exactly

    ## Silent on
    >>> trace[2] = Operation(2, "cross_entropy", operands=(logits, probabilities), has_graph=True, is_loss=True)
    >>> list(LossInputMismatch().analyze(recording(operations=trace)))
    []

    ## Sources
    - PyTorch, `CrossEntropyLoss` and `NLLLoss`, https://docs.pytorch.org/docs/stable/nn.html#loss-functions
    - Hong et al., "Investigating and Detecting Silent Bugs in PyTorch Programs", SANER 2024: a loss that does not fit
      the activation before it is the most frequent cause (62 of 365 posts).
    """

    severity: ClassVar[Severity] = Severity.ERROR
    explains: ClassVar[frozenset[str]] = frozenset({"vanishing-gradient"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each line of a loss."""
        yield from flow_of(recording.operations).once(self._judge)

    def _judge(self, flow: Flow) -> Iterator[Finding]:
        causes = set[str]()
        for operation in flow.operations:
            loss, given = _loss(flow, operation)
            if not loss or not given.has_graph or operation.index not in flow.toward_loss:
                continue
            sources = _sources(flow, given)
            if sources and all(_is_wrong(flow, loss, source) for source in sources):
                finding = self._found(operation, loss, given, sources[0], _meaning(flow, sources[0]))
                if finding.cause not in causes:
                    yield finding
                causes.add(finding.cause)

    def _found(self, operation: Operation, loss: str, given: Operand, source: Operation, meaning: str) -> Finding:
        rule, name = RULES[loss], meaning.strip("_")
        by_hand = " by hand" if meaning in SOFTMAX and source.name != meaning else ""
        module = f" in {source.module!r}" if source.module else ""
        line = f" at {source.location}" if source.location else ""
        what = "logits, " if name in LAYERS else ""
        held = f"; it holds {source.values.low:.3g} to {source.values.high:.3g}" if source.values else ""
        return self.finding(
            step=operation.step,
            message=f"{loss}{'' if operation.name == loss else ' by hand'} takes {rule.takes} and was given "
            f"{what}the result of {name}{by_hand}{module}",
            evidence=f"its operand {given.shape} is {name}'s result{line}, seen through views and casts{held}",
            why=_why(loss, name, given.shape),
            fix=rule.fix.format(name),
            sites=(source.module,) if source.module else (),
            location=operation.location,
            cause=f"{loss} at {operation.location} of {name}{module}{line}",
        )


def _loss(flow: Flow, operation: Operation) -> tuple[str, Operand]:
    """Which loss an operation is and what it was given; "" for anything else."""
    name = operation.name if operation.name in RULES else ""
    if operation.name == "sub" and len(operation.operands) > 1:
        whole, subtracted = (flow.origin(each) for each in operation.operands[:2])
        sums = _before(flow, subtracted, "logsumexp"), _before(flow, subtracted, "log", "sum", "exp")
        name = "log_softmax" if any(_same(whole, each) for each in sums) else ""
    return (name, operation.operands[0]) if name and operation.operands else ("", Operand())


def _sources(flow: Flow, operand: Operand) -> list[Operation]:
    """The operations whose results an operand holds, seen through views, casts and concatenations; none if unknown."""
    origin = flow.origin(operand)
    if origin is None or origin.name not in JOINING | {"broadcast_tensors"}:
        return [] if origin is None else [origin]
    # In torch's distributions, logits and a sample without a graph are broadcast together.
    parts = [_sources(flow, each) for each in origin.operands if each.has_graph or origin.name in JOINING]
    return [source for part in parts for source in part] if all(parts) else []


def _is_wrong(flow: Flow, loss: str, source: Operation) -> bool:
    """Whether a loss does not take what this operation computes; a product without a positive may be logarithms."""
    meaning = _meaning(flow, source)
    could_be = meaning in LAYERS and source.values is not None and source.values.high <= 0
    return meaning in RULES[loss].wrong and not could_be


def _meaning(flow: Flow, operation: Operation) -> str:
    """What an operation computes, under the name that torch has for it."""
    match operation.name, [flow.origin(each) for each in operation.operands]:
        case "div", [part, whole] if _same(_before(flow, part, "exp"), _before(flow, whole, "sum", "exp")):
            return "softmax"
        case "add", [Operation(name=name), None] if name in LAYERS and operation.operands[1].parameter:
            return name
    return operation.name


def _before(flow: Flow, operation: Operation | None, *names: str) -> Operation | None:
    """What came before a chain of operations with these names, of which this one is the last."""
    for name in names:
        if operation is None or operation.name != name or not operation.operands:
            return None
        operation = flow.origin(operation.operands[0])
    return operation


def _same(one: Operation | None, other: Operation | None) -> bool:
    return one is not None and one is other


def _why(loss: str, source: str, shape: tuple[int, ...]) -> str:
    if loss in ("cross_entropy", "log_softmax") and shape:
        classes = shape[1] if len(shape) > 1 and loss == "cross_entropy" else shape[-1]
        least = log(e + classes - 1) - 1
        return f"the loss cannot fall below log(e + {classes} - 1) - 1 = {least:.2f}, and its gradients are small"
    if loss.startswith("nll_loss"):
        end = "is the mean probability, not the likelihood" if source in PROBABILITIES else "falls without end"
        return f"nll_loss only picks the numbers it is given, so the loss {end}"
    if loss == "kl_div":
        given = "logits" if source in LAYERS else "probabilities"
        return f"the divergence is computed from {given} as if they were logarithms of probabilities"
    return "a result between 0 and 1 leaves a loss of at least 0.31 for a positive and 0.69 for a negative"
