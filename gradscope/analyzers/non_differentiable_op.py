"""An operation without a derivative stands between parameters and the loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradscope.analyzer import Analyzer, Request
from gradscope.dataflow import expression
from gradscope.findings import Finding, Severity
from gradscope.graphs import Cut, flat, last_module, receiving, settled, starving_cuts, ungraphed, unmoved, unspoken
from gradscope.records import Kind, Recording, Statistic

SOFT = "use softmax, or F.gumbel_softmax(logits, hard=True) where the choice must be hard"
GATHER = "multiply what they select by the values themselves (topk's values, gather), or use softmax weights"
SMOOTH = "use a smooth step as sigmoid(k * x), or a straight-through estimator"
KEEP = "keep floating point on the way to the loss, and leave out the cast"
ASSIGN = "use a soft assignment, as softmax over negative distances"
SAMPLE = "use rsample() or a relaxed distribution, or train on log_prob() of the sample"
THROUGH = "use a straight-through estimator, as x + ({}(x) - x).detach()"
DIVIDE = "divide without rounding, or round straight through: q = a / b, then q + (floor(q) - q).detach()"

CHOICES = ("argmax", "argmin")
ORDERS = (
    "argsort",
    "kthvalue",
    "max",
    "median",
    "min",
    "mode",
    "msort",
    "sort",
    "topk",
    "unique",
    "unique_consecutive",
)
COMPARISONS = ("eq", "equal", "ge", "greater", "gt", "isclose", "le", "less", "logical_and", "logical_not", "lt", "ne")
CASTS = ("bool", "byte", "char", "int", "long", "short", "to", "type", "type_as")
DIVISIONS = ("div", "divide", "floor_divide", "floordiv", "rfloordiv")
BINS = ("bincount", "bucketize", "histc", "nonzero", "one_hot", "searchsorted")

FIXES = (
    dict.fromkeys(CHOICES, SOFT)
    | dict.fromkeys(ORDERS, GATHER)
    | dict.fromkeys(COMPARISONS, SMOOTH)
    | dict.fromkeys(CASTS, KEEP)
    | dict.fromkeys(BINS, ASSIGN)
    | dict.fromkeys(DIVISIONS, DIVIDE)
)


@dataclass(frozen=True)
class NonDifferentiableOp(Analyzer):
    """Parameters count for the loss only through an operation that has no derivative, or one that is zero.

    ## What it means
    The result of `argmax`, of a comparison, of a cast to integers, the indices of `topk` and a drawn sample have
    no derivative: the graph ends there. `round`, `floor`, `sign` and their like have one that is zero almost
    everywhere: the graph goes on, but only zeros come through.

    ## Why it matters
    The parameters before the operation keep their initial values, or are moved by weight decay alone, while the
    loss still depends on them. No error is raised.

    ## How it is measured
    Parameters that an optimizer has stepped and that never received a gradient are followed through a trace, as
    for `detached-tensor`; it is this disease if the operation that ends the graph has an integer or boolean
    result, hands on indices, or draws a sample. Parameters whose gradient was exactly zero in every observed
    step are followed, too: it is this disease if every way along the graph from them to the losses passes an
    operation whose derivative is zero.

    ## What it is not
    Straight-through estimators (`x + (round(x) - x).detach()`, an autograd Function with a backward of its own,
    fake quantization, `gumbel_softmax(hard=True)`); a choice whose scores carry a gradient as well, as a gate's
    probability that scales its expert; policy gradients, where the loss uses `log_prob` of the sample; masks;
    metrics that do not flow into the loss; gradients that are zero for another reason, as with LoRA's B = 0.

    ## How to fix it
    Replace the operation by a differentiable one: `softmax` or Gumbel-softmax instead of `argmax`, values and
    `gather` instead of indices, `rsample()` instead of `sample()`, a straight-through estimator for rounding.

    ## Fires on
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.traces import Operand, Operation
    >>> from gradscope.testing import recording
    >>> learning = ParameterInfo("head.weight", "head", optimizer_steps=5, contributions=5)
    >>> starved = ParameterInfo("router.weight", "router", optimizer_steps=5, contributions=0)
    >>> router, head = (Operand(parameter=f"{name}.weight", has_graph=True) for name in ("router", "head"))
    >>> trace = [
    ...     Operation(0, "linear", "router", operands=(router,), has_graph=True),
    ...     Operation(1, "argmax", operands=(Operand(operation=0, has_graph=True),), differentiable=False),
    ...     Operation(2, "embedding", "head", operands=(Operand(operation=1), head), has_graph=True, is_loss=True),
    ... ]
    >>> for found in NonDifferentiableOp().analyze(recording(parameters=[starved, learning], operations=trace)):
    ...     print(found)
    ERROR    non-differentiable-op   since step 0   1 of 2 parameters
             argmax after 'router' cuts the graph: 'router.weight' receives no gradient
             measured: its result holds integers or booleans, and the loss depends on these parameters through it only
             why: what it does has no derivative, so backpropagation ends there and these weights never change
             fix: use softmax, or F.gumbel_softmax(logits, hard=True) where the choice must be hard

    ## Silent on
    >>> list(NonDifferentiableOp().analyze(recording(parameters=[learning], operations=trace)))
    []

    ## Sources
    - PyTorch, "Gradients for non-differentiable functions", https://docs.pytorch.org/docs/stable/notes/autograd.html
    - Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
      Computation", 2013, https://arxiv.org/abs/1308.3432
    - Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.
    """

    severity: ClassVar[Severity] = Severity.ERROR
    revocable: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"unused-parameter", "vanishing-gradient"})

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """One finding for each such operation, or the wish for a trace."""
        raised = ungraphed(recording)
        found = starving_cuts(recording) if raised is None else (raised,)
        yield from (self._cut(recording, cut) for cut in found if not cut.differentiable)
        zero = unmoved(recording) if settled(recording) else ()
        yield from (self._flat(recording, cut) for cut in flat(recording, zero))
        silent = unspoken(recording, zero)
        if silent and not recording.complete:
            yield Request(f"the gradients of {len(silent)} parameters are exactly zero: which operation makes them so?")

    def _cut(self, recording: Recording, cut: Cut) -> Finding:
        if cut.sampled:
            evidence = "its result is a sample"
        elif cut.indices:
            evidence = "its indices hold integers"
        else:
            evidence = "its result holds integers or booleans"
        return self._found(
            recording,
            cut,
            step=0,
            message=f"{_subject(recording, cut)} {'cut' if cut.indices else 'cuts'} the graph: "
            f"{receiving(cut.victims)} no gradient",
            evidence=f"{evidence}, and the loss depends on these parameters through it only",
            why="what it does has no derivative, so backpropagation ends there and these weights never change",
        )

    def _flat(self, recording: Recording, cut: Cut) -> Finding:
        step, count = _measured(recording, cut.victims)
        times = "the observed step" if count == 1 else f"all {count} observed steps"
        return self._found(
            recording,
            cut,
            step=step,
            message=f"{_subject(recording, cut)} has a derivative of zero: {receiving(cut.victims)} only zeros",
            evidence=f"gradients were exactly 0 in {times}, and every way from them to the loss passes it",
            why="zeros are all that comes through it, so the loss never moves these weights",
        )

    def _found(self, recording: Recording, cut: Cut, **fields: object) -> Finding:
        return self.finding(
            sites=cut.victims,
            scope=f"{len(cut.victims)} of {len(recording.parameters)} parameters",
            fix=_fix(cut),
            location=cut.operation.location,
            cause=f"{_subject(recording, cut)} at {cut.operation.location}",
            **fields,
        )


def _name(cut: Cut) -> str:
    return "sample()" if cut.sampled and ".sample(" in expression(cut.operation) else cut.operation.name


def _subject(recording: Recording, cut: Cut) -> str:
    name = f"the indices of {_name(cut)}" if cut.indices else _name(cut)
    if cut.operation.module:
        return f"{name} in module {cut.operation.module!r}"
    return f"{name} after {last_module(recording, cut.victims)!r}"


def _fix(cut: Cut) -> str:
    name = _name(cut)
    bare = name.rstrip("_").partition("(")[0]
    if cut.sampled:
        return SAMPLE
    if cut.indices:
        return GATHER
    general = f"{name} has no derivative: use an operation that has one, or a straight-through estimator"
    return FIXES.get(bare, THROUGH.format(bare) if cut.operation.differentiable else general)


def _measured(recording: Recording, victims: tuple[str, ...]) -> tuple[int, int]:
    """The first observed step in which a gradient of one of these parameters was measured, and how many there are."""
    sites = recording.sites_of(Kind.PARAMETER_GRADIENT)
    columns = [not {site.path, *site.aliases}.isdisjoint(victims) for site in sites]
    rows = np.flatnonzero((recording.values(Kind.PARAMETER_GRADIENT, Statistic.COUNT)[:, columns] > 0).any(axis=1))
    return recording.observed[rows[0]].index, len(rows)
