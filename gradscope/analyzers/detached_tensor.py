"""The autograd graph is cut between parameters and the loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer, Request
from gradscope.findings import Finding, Severity
from gradscope.graphs import EXITS, ancestors, cuts, gap, ran, starved, without_grad
from gradscope.records import Kind, ParameterInfo, Recording
from gradscope.traces import Failure, Operation

NO_GRAPH = "does not require grad and does not have a grad_fn"
WHY = "backpropagation ends at the cut, so these weights never change"
FREEZE = "or freeze them with requires_grad_(False) if that is meant"
OUTSIDE = f"call it outside torch.no_grad(), {FREEZE}"

DETACHING = {"detach": ".detach()", "detach_": ".detach_()", "data": ".data"}


@dataclass(frozen=True)
class DetachedTensor(Analyzer):
    """Parameters ran and count for the loss, but the graph between them and the loss is cut.

    ## What it means
    Backpropagation follows the graph that autograd records. Something on the way from these parameters to
    the loss left that graph: `detach()`, `.data`, `torch.no_grad()`, `.item()`, a numpy round trip, a tensor
    wrapped anew, or an operation without a derivative, as `argmax`.

    ## Why it matters
    The parameters before the cut stay at their initial values. The rest of the model learns around them, so
    the loss falls and the damage shows only in the result.

    ## How it is measured
    Trainable parameters that an optimizer has stepped and that no backward ever gave a gradient, while others
    received one, make this analyzer ask for a trace of the next step. In the trace, a cut is the first
    operation without a graph on the way from such a parameter to the loss. Without a trace the modules tell:
    those that ran only without grad mode, and those that ran before the first one that a gradient reached.

    ## What it is not
    Frozen parameters; a stop-gradient branch whose parameters another branch trains (SimSiam, BYOL); targets
    and averaged codebooks that are updated by other means; the generator while only the discriminator has
    stepped; LoRA with B = 0 (zero is a gradient); a head or an expert that was not used: nothing it computed
    flows into the loss, which is `unused-parameter`.

    ## How to fix it
    Remove the operation that the finding names, or replace it by a differentiable one. Checkpoints also run
    without grad mode, so call them with `use_reentrant=False`. If the parameters are meant to stay as they are,
    say so with `requires_grad_(False)`.

    ## Fires on
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.traces import Operation
    >>> from gradscope.testing import recording
    >>> learning = ParameterInfo("head.weight", "head", optimizer_steps=1, contributions=1)
    >>> starved = ParameterInfo("encoder.weight", "encoder", optimizer_steps=1, contributions=0)
    >>> trace = [
    ...     Operation(0, "linear", "encoder", parameters=("encoder.weight",), had_graph=True, has_graph=True),
    ...     Operation(1, "detach", "encoder", inputs=(0,), had_graph=True),
    ...     Operation(2, "linear", "head", None, (1,), ("head.weight",), True, True, is_loss=True),
    ... ]
    >>> for found in DetachedTensor().analyze(recording(parameters=[starved, learning], operations=trace)):
    ...     print(found)
    ERROR    detached-tensor   since step 0   1 of 2 parameters
             .detach() in module 'encoder' cuts the graph: 'encoder.weight' receives no gradient
             measured: its input was part of the graph, its result is not, and the loss is computed from it
             why: backpropagation ends at the cut, so these weights never change
             fix: remove .detach(), or freeze them with requires_grad_(False) if that is meant

    ## Silent on
    >>> list(DetachedTensor().analyze(recording(parameters=[learning])))
    []

    ## Sources
    - PyTorch, "Autograd mechanics", https://docs.pytorch.org/docs/stable/notes/autograd.html
    - Hong et al., "Investigating and Detecting Silent Bugs in PyTorch Programs", SANER 2024: a broken graph is
      the third most frequent cause (47 of 365 posts).
    """

    severity: ClassVar[Severity] = Severity.ERROR
    explains: ClassVar[frozenset[str]] = frozenset({"unused-parameter", "vanishing-gradient"})

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """One finding for each cut, or the wish for a trace."""
        if recording.failure and NO_GRAPH in recording.failure.message:
            yield self._no_graph(recording, recording.failure)
        hungry = starved(recording)
        if hungry and recording.operations:
            for operation, victims in cuts(recording, hungry).items():
                yield self._cut(recording, operation, victims)
        elif hungry:
            yield from self._untraced(recording, hungry)

    def _cut(self, recording: Recording, operation: Operation, victims: tuple[str, ...]) -> Finding:
        name = DETACHING.get(operation.name, operation.name.strip("_"))
        within, behind = f" in module {operation.module!r}", f" after {_last_module(recording, victims)!r}"
        place = within if operation.module else behind
        if operation.name in EXITS:
            message = f"{name}{place} leaves the graph: {_number(victims)} no gradient"
            evidence = "its result is a plain value without a graph, and no gradient arrives before it"
        elif operation.grad_enabled:
            message = f"{name}{place} cuts the graph: {_number(victims)} no gradient"
            evidence = "its input was part of the graph, its result is not, and the loss is computed from it"
        else:
            message = f"{name}{place} ran without grad mode: {_number(victims)} no gradient"
            evidence = "grad mode was off when it used them, and the loss is computed from its result"
        fix, cause = _fix(name, operation), f"{name}{place} at {operation.location}"
        return self._found(recording, victims, message, evidence, fix=fix, cause=cause, location=operation.location)

    def _untraced(self, recording: Recording, hungry: tuple[ParameterInfo, ...]) -> Iterator[Finding | Request]:
        """Ask for a trace; when it is too late for one, what modules tell."""
        running = ran(recording)
        suspects = tuple(parameter for parameter in hungry if running & ancestors(parameter.module))
        if not recording.complete:
            if suspects:
                yield Request(f"{len(suspects)} parameters received no gradient: where is the graph cut?")
            return
        off = without_grad(recording, suspects)
        if off:
            victims = tuple(parameter.path for parameter in off)
            message = f"module {off[0].module!r} ran without grad mode: {_number(victims)} no gradient"
            evidence = "grad mode was off in every observed call of the modules that own them"
            yield self._found(recording, victims, message, evidence, fix=OUTSIDE, cause="no grad mode")
        place = gap(recording, suspects)
        if place:
            victims = tuple(parameter.path for parameter in place.victims)
            below = place.below or "(root)"
            message = f"the graph is cut between {place.above!r} and {below!r}: {_number(victims)} no gradient"
            evidence = f"gradients arrived at {below!r} and not at the modules that ran before it"
            fix = f"look there for detach(), .data, .item(), numpy() or torch.tensor(), {FREEZE}"
            # Without a trace, a first branch that nobody uses looks the same: sure enough for a warning only.
            options = {"fix": fix, "cause": "gap", "severity": Severity.WARNING}
            yield self._found(recording, victims, message, evidence, **options)

    def _no_graph(self, recording: Recording, failure: Failure) -> Finding:
        sites = recording.sites_of(Kind.ACTIVATION_GRADIENT)
        last = f"the output of {sites[-1].path!r} had one" if sites else "no module's output had one either"
        return self.finding(
            step=failure.step,
            message="the loss has no graph, so backward() has nowhere to go",
            evidence=f"the loss requires no grad; {last}",
            why="no parameter can receive a gradient",
            fix="compute the loss from the output itself: no detach(), .item(), numpy() or no_grad() on the way",
            location=failure.location,
            cause="the loss",
        )

    def _found(
        self, recording: Recording, victims: tuple[str, ...], message: str, evidence: str, **fields: object
    ) -> Finding:
        return self.finding(
            step=0,
            message=message,
            evidence=evidence,
            why=WHY,
            sites=victims,
            scope=f"{len(victims)} of {len(recording.parameters)} parameters",
            **fields,
        )


def _fix(name: str, operation: Operation) -> str:
    if not operation.grad_enabled:
        return OUTSIDE
    if operation.name in DETACHING:
        return f"remove {name}, {FREEZE}"
    if operation.name in EXITS or "tensor" in name:
        return f"keep the tensor instead of the copy that {name} makes, {FREEZE}"
    return f"{name} has no derivative: use one that has (softmax, Gumbel-softmax, straight-through)"


def _last_module(recording: Recording, victims: tuple[str, ...]) -> str:
    """The module that ran last among those of some parameters."""
    order = {module.path: row for row, module in enumerate(recording.modules)}
    modules = [parameter.module for parameter in recording.parameters if parameter.path in victims]
    return max(modules, key=lambda path: order.get(path, -1))


def _number(victims: tuple[str, ...]) -> str:
    return f"{len(victims)} parameters receive" if len(victims) > 1 else f"{victims[0]!r} receives"
