"""The autograd graph is cut between parameters and the loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer, Request
from gradscope.dataflow import CHECKPOINT, EXITS, expression
from gradscope.findings import Finding, Severity
from gradscope.graphs import (
    NO_GRAPH,
    Cut,
    Escape,
    ancestors,
    escapes,
    gap,
    last_module,
    ran,
    receiving,
    settled,
    starved,
    starving_cuts,
    ungraphed,
    unspoken,
    without_grad,
)
from gradscope.records import Kind, ParameterInfo, Recording
from gradscope.traces import Failure, Operation

WHY = "backpropagation ends at the cut, so these weights never change"
FREEZE = "or freeze them with requires_grad_(False) if that is meant"
OUTSIDE = f"call it outside torch.no_grad(), {FREEZE}"

NAMES = {
    "Parameter": "nn.Parameter()",
    "__array__": "a conversion to numpy",
    "__deepcopy__": "deepcopy()",
    "__float__": "float()",
    "__int__": "int()",
    "__setitem__": "an assignment to elements",
    "data": ".data",
    "detach": ".detach()",
    "detach_": ".detach_()",
    "item": ".item()",
    "new_tensor": ".new_tensor()",
    "numpy": ".numpy()",
    "tensor": "torch.tensor()",
    "tolist": ".tolist()",
}
WRAPPED = "Parameter"  # noticed where it is used first
COPIES = frozenset({"deepcopy()", "nn.Parameter()", ".new_tensor()", "torch.tensor()"})


@dataclass(frozen=True)
class DetachedTensor(Analyzer):
    """Parameters ran and count for the loss, but the graph between them and the loss is cut.

    ## What it means
    Backpropagation follows the graph that autograd records. Something on the way from these parameters to
    the loss left that graph: `detach()`, `.data`, `torch.no_grad()`, `.item()`, a numpy round trip, a tensor
    wrapped anew, or a reentrant checkpoint none of whose inputs requires grad. An operation that has no
    derivative is `non-differentiable-op`.

    ## Why it matters
    The parameters before the cut stay at their initial values. The rest of the model learns around them, so
    the loss falls and the damage shows only in the result.

    ## How it is measured
    Trainable parameters that an optimizer has stepped and that no backward ever gave a gradient, while others
    received one, are followed through a trace of the operations: along the graph as far as it goes, to the
    operation whose result leaves it and yet flows into a loss of a step in which they were updated. The last
    such operation on the way is the cut: one whose result only scales what is still in the graph is none.
    Where numbers pass through another library, the trace ends, and the place where they seem to come back is
    a suspicion: a warning, and only if no module before the cut received a gradient. Without a trace the
    modules tell: those that ran only without grad mode, and those that ran before the first one that a
    gradient reached.

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
    >>> from gradscope.traces import Operand, Operation
    >>> from gradscope.testing import recording
    >>> learning = ParameterInfo("head.weight", "head", optimizer_steps=1, contributions=1)
    >>> starved = ParameterInfo("encoder.weight", "encoder", optimizer_steps=1, contributions=0)
    >>> encoder, head = (Operand(parameter=f"{name}.weight", has_graph=True) for name in ("encoder", "head"))
    >>> trace = [
    ...     Operation(0, "linear", "encoder", operands=(encoder,), has_graph=True),
    ...     Operation(1, "detach", "encoder", operands=(Operand(operation=0, has_graph=True),)),
    ...     Operation(2, "linear", "head", operands=(Operand(operation=1), head), has_graph=True, is_loss=True),
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
    revocable: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"unused-parameter", "vanishing-gradient"})

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """One finding for each cut, or the wish for a trace."""
        if recording.failure and NO_GRAPH in recording.failure.message:
            cut = ungraphed(recording)
            if cut is None:
                yield self._no_graph(recording, recording.failure)
            elif cut.differentiable:
                yield self._ungraphed(recording, cut)
            return
        hungry = starved(recording)
        if not hungry:
            return
        found, suspected = starving_cuts(recording), escapes(recording, hungry)
        yield from (self._cut(recording, cut) for cut in found if cut.differentiable)
        yield from (self._escape(recording, escape) for escape in suspected)
        explained = set[str]().union(*(cut.victims for cut in found), *(escape.victims for escape in suspected))
        rest = tuple(parameter for parameter in hungry if parameter.path not in explained)
        silent = unspoken(recording, rest)
        if recording.complete:
            yield from self._by_modules(recording, _running(recording, silent))
        elif suspects := _running(recording, rest if settled(recording) else silent):
            yield Request(f"{len(suspects)} parameters received no gradient: where is the graph cut?")

    def _cut(self, recording: Recording, cut: Cut) -> Finding:
        operation, victims = cut.operation, cut.victims
        subject = f"{_name(operation)}{_place(recording, operation, victims)}"
        verb = "cuts the graph"
        if operation.function == CHECKPOINT:
            evidence = (
                "it ran without grad mode, no input of it requires grad, and the loss is computed from its result"
            )
        elif operation.name in EXITS:
            evidence = "its result is a plain value without a graph, and the loss is computed from it"
        elif operation.grad_enabled:
            evidence = "its input was part of the graph, its result is not, and the loss is computed from it"
        else:
            verb = "ran without grad mode"
            evidence = "grad mode was off when it used them, and the loss is computed from its result"
        message = f"{subject} {verb}: {receiving(victims)} no gradient"
        cause = f"{subject} at {operation.location}"
        fix = _fix(operation)
        return self._found(recording, victims, message, evidence, fix=fix, cause=cause, location=operation.location)

    def _escape(self, recording: Recording, escape: Escape) -> Finding:
        left, back, victims = escape.exit, escape.entry, escape.victims
        out = f"{_name(left)}{_place(recording, left, victims)}"
        again = f"{_name(back)} at {back.location}" if back.location else _name(back)
        message = f"values leave the graph at {out} and seem to come back at {again}: {receiving(victims)} no gradient"
        evidence = "what happens to them between the two is not torch's; no gradient arrives before, and some after"
        fix = f"compute with torch functions from {_name(left)} to {_name(back)}, {FREEZE}"
        options = {"fix": fix, "cause": f"{out} at {left.location}", "location": left.location}
        return self._found(recording, victims, message, evidence, severity=Severity.WARNING, **options)

    def _by_modules(self, recording: Recording, suspects: tuple[ParameterInfo, ...]) -> Iterator[Finding]:
        """When it is too late for a trace, what modules tell."""
        off = without_grad(recording, suspects)
        if off:
            victims = tuple(parameter.path for parameter in off)
            message = f"module {off[0].module!r} ran without grad mode: {receiving(victims)} no gradient"
            evidence = "grad mode was off in every observed call of the modules that own them"
            yield self._found(recording, victims, message, evidence, fix=OUTSIDE, cause="no grad mode")
        place = gap(recording, suspects)
        if place:
            victims = tuple(parameter.path for parameter in place.victims)
            below = place.below or "(root)"
            message = f"the graph is cut between {place.above!r} and {below!r}: {receiving(victims)} no gradient"
            evidence = f"gradients arrived at {below!r} and not at the modules that ran before it"
            fix = f"look there for detach(), .data, .item(), numpy() or torch.tensor(), {FREEZE}"
            # Without a trace, a first branch that nobody uses looks the same: sure enough for a warning only.
            options = {"fix": fix, "cause": "gap", "severity": Severity.WARNING}
            yield self._found(recording, victims, message, evidence, **options)

    def _ungraphed(self, recording: Recording, cut: Cut) -> Finding:
        operation, victims = cut.operation, cut.victims
        subject = f"{_name(operation)}{_place(recording, operation, victims)}"
        message = f"{subject} leaves the loss without a graph, so backward() has nowhere to go"
        evidence = "the loss is computed from its result, and from nothing that has a graph"
        options = {"fix": _fix(operation), "cause": "the loss", "location": operation.location}
        return self._found(recording, victims, message, evidence, **options)

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


def _running(recording: Recording, parameters: tuple[ParameterInfo, ...]) -> tuple[ParameterInfo, ...]:
    """Those whose module ran, or one that contains it."""
    running = ran(recording) if parameters else frozenset()
    return tuple(parameter for parameter in parameters if running & ancestors(parameter.module))


def _name(operation: Operation) -> str:
    """As the user wrote it."""
    if operation.function == CHECKPOINT:
        return "checkpoint(use_reentrant=True)"
    if "deepcopy(" in expression(operation):
        return "deepcopy()"
    return NAMES.get(operation.name, operation.name)


def _place(recording: Recording, operation: Operation, victims: tuple[str, ...]) -> str:
    if operation.function == CHECKPOINT:
        return f" around module {operation.module!r}"
    if operation.module and operation.name != WRAPPED:
        return f" in module {operation.module!r}"
    return f" after {last_module(recording, victims)!r}"


def _fix(operation: Operation) -> str:
    name = _name(operation)
    if operation.function == CHECKPOINT:
        return f"call checkpoint() with use_reentrant=False, {FREEZE}"
    if operation.name in EXITS or name in COPIES:
        return f"keep the tensor instead of the copy that {name} makes, {FREEZE}"
    if not operation.grad_enabled:
        return OUTSIDE
    return f"remove {name}, {FREEZE}"
