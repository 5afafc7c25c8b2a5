"""A loss was given what another loss takes: probabilities for logits, logits for log-probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import e, log
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.dataflow import flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.traces import Operation

SOFTMAX = ("softmax",)
SIGMOID = ("sigmoid", "sigmoid_")
LAYERS = ("linear", "bilinear", "conv1d", "conv2d", "conv3d", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum")

LOGITS, LOG_PROBABILITIES = "logits", "log-probabilities"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a loss takes, which operations give something else, and what to do then."""

    takes: str
    wrong: tuple[str, ...]
    fix: str


DROP = "drop the {source}: {loss} applies it itself, and more exactly"
RULES = {
    "cross_entropy": Rule(LOGITS, SOFTMAX, DROP),
    "binary_cross_entropy_with_logits": Rule(LOGITS, SIGMOID + SOFTMAX, DROP),
    "multilabel_soft_margin_loss": Rule(LOGITS, SIGMOID + SOFTMAX, DROP),
    "log_softmax": Rule(LOGITS, SOFTMAX, "drop the softmax: log_softmax is both, and more exact"),
    "nll_loss": Rule(
        LOG_PROBABILITIES,
        SOFTMAX + SIGMOID + LAYERS,
        "use cross_entropy on the logits, or log_softmax before nll_loss",
    ),
    "kl_div": Rule(LOG_PROBABILITIES, SOFTMAX + SIGMOID, "use log_softmax for the first argument of kl_div"),
}
RULES["nll_loss_nd"] = RULES["nll_loss"]


@dataclass(frozen=True)
class LossInputMismatch(Analyzer):
    """A loss that takes logits was given probabilities, or one that takes log-probabilities was given something else.

    ## What it means
    `cross_entropy` and `binary_cross_entropy_with_logits` contain softmax and sigmoid. A model that ends with one
    of them applies it twice. `nll_loss` and `kl_div` take log-probabilities and compute nonsense, without an
    error, from anything else.

    ## Why it matters
    After a second softmax the loss cannot fall below log(e + C - 1) - 1, which is 1.46 for 10 classes, and its
    gradients are small: training looks slow and stays poor. `nll_loss` of probabilities ends at -1, of logits it
    falls without end.

    ## How it is measured
    In a traced step the loss's first operand is followed back through views and casts to the operation that
    computed it. No value is looked at: the operations tell.

    ## What it is not
    A teacher's probabilities as the target, which are the second operand; attention, or a mean of probabilities,
    somewhere before the last layer; a scale between softmax and the loss, which may be meant; `log_softmax`
    before `cross_entropy`, which changes nothing; operands without a graph.

    ## How to fix it
    End the model with the plain layer and use the loss that takes logits.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> from gradscope.traces import Operand
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
             fix: drop the softmax: cross_entropy applies it itself, and more exactly

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
        flow = flow_of(recording.operations)
        for operation in recording.operations:
            rule = RULES.get(operation.name)
            if rule is None or not operation.operands or operation.index not in flow.toward_loss:
                continue
            given = operation.operands[0]
            source = flow.origin(given)
            if source is not None and source.name in rule.wrong and given.has_graph and source.has_graph:
                yield self._found(operation, rule, source)

    def _found(self, operation: Operation, rule: Rule, source: Operation) -> Finding:
        name, shape = source.name.strip("_"), operation.operands[0].shape
        module = f" in {source.module!r}" if source.module else ""
        line = f" at {source.location}" if source.location else ""
        what = "logits, " if name in LAYERS else ""
        return self.finding(
            step=operation.step,
            message=f"{operation.name} takes {rule.takes} and was given {what}the result of {name}{module}",
            evidence=f"its operand {shape} is {name}'s result{line}, seen through views and casts",
            why=_why(operation.name, name, shape),
            fix=rule.fix.format(source=name, loss=operation.name),
            sites=(source.module,) if source.module else (),
            location=operation.location,
            cause=f"{operation.name} at {operation.location} of {name} at {source.location}",
        )


def _why(loss: str, source: str, shape: tuple[int, ...]) -> str:
    if loss in ("cross_entropy", "log_softmax") and shape:
        classes = shape[1] if len(shape) > 1 and loss == "cross_entropy" else shape[-1]
        least = log(e + classes - 1) - 1
        return f"the loss cannot fall below log(e + {classes} - 1) - 1 = {least:.2f}, and its gradients are small"
    if loss.startswith("nll_loss"):
        end = "falls without end" if source in LAYERS else "is the mean probability, not the likelihood"
        return f"nll_loss only picks the numbers it is given, so the loss {end}"
    if loss == "kl_div":
        return "the divergence is computed from probabilities as if they were their logarithms"
    return f"{source} twice squeezes its result between 0.5 and 0.73, so the loss cannot reach 0"
