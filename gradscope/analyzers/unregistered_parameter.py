"""A module holds parameters where the model does not know of them, or makes them anew in each forward."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.dataflow import Flow, flow_of, strangers
from gradscope.findings import Finding, Severity, summary
from gradscope.inventory import OUTSIDE, Stray
from gradscope.records import ROOT, Recording
from gradscope.traces import Operand, Operation

# They take parts of a tensor, or put tensors side by side, so a batch may become another one.
GATHERING = frozenset(
    {"__getitem__", "cat", "concat", "concatenate", "gather", "hstack", "index_select", "stack", "vstack"}
)


@dataclass(frozen=True)
class UnregisteredParameter(Analyzer):
    """A module holds parameters in a plain list or dict, as plain tensors or nowhere: `model.parameters()` lacks them.

    ## What it means
    `self.layers = [nn.Linear(8, 8), nn.Linear(8, 8)]`: torch looks for parameters in attributes that are modules
    or parameters, and not into Python's containers; nor does it take `torch.ones(8, requires_grad=True)` for a
    parameter. Nor can it know of `nn.Linear(8, 8)(x)` in a `forward`, which is another layer in each call. The layers
    run and receive gradients, and nobody trains them.

    ## Why it matters
    They keep their initial values, are left behind by `.to(device)`, `.half()` and `.eval()`, and are missing in
    `state_dict()`, so that a saved model does not give them back.

    ## How it is measured
    By identity, at the end of the run: a parameter that a module of the model holds in a container, or that
    belongs to a module it so holds, is no parameter of the model, received gradients in more than one step, is in no
    optimizer of the process, and has not changed. A plain tensor counts where the traced step combines it, or a
    function of it alone, with another one to a result of another first dimension, as a weight does and a batch of
    data does not. And by the trace: a `forward` makes a parameter of values that come from nowhere, the loss is
    computed from it, and it is none that the model has afterwards.

    ## What it is not
    Learned inputs, latent codes and adversarial examples (no module holds them); a reference to a part of the model
    or to another model that an optimizer trains; a teacher without gradients; a part in evaluation
    mode, such as a perceptual loss that is kept out of `state_dict()` on purpose; points at which a model is
    differentiated with respect to its input; a layer that the first forward makes and keeps.

    ## How to fix it
    Use `nn.ModuleList` or `nn.ModuleDict` for modules, `nn.ParameterList` or `nn.ParameterDict` for parameters, and
    `nn.Parameter` for a tensor. Make layers in `__init__`, with `nn.LazyLinear` where a size is not known yet.

    ## Fires on
    >>> from gradscope.inventory import Inventory, Stray
    >>> from gradscope.testing import recording
    >>> lost = Stray("layers[0].weight", "", "layers", "list", (8, 8))
    >>> for found in UnregisteredParameter().analyze(recording(inventory=Inventory(strays=(lost,)), complete=True)):
    ...     print(found)
    ERROR    unregistered-parameter   since step 0   'layers[0].weight'
             'layers' of (root) is a plain list, so the model does not know of the 1 parameter in it
             measured: it received gradients in several steps, is in no optimizer, and has not moved
             why: it keeps its initial values, and state_dict() and .to() leave it out
             fix: use nn.ModuleList for modules, nn.ParameterList for parameters

    ## Silent on
    >>> list(UnregisteredParameter().analyze(recording(complete=True)))
    []

    ## Sources
    - PyTorch, "torch.nn.ModuleList", https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html
    """

    severity: ClassVar[Severity] = Severity.ERROR
    explains: ClassVar[frozenset[str]] = frozenset({"broken-tie"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for what is made in a traced forward; at the end, one for each attribute that holds some."""
        made = flow_of(recording.operations).once(_made_in_forward)
        if made and not _is_kept(recording):
            yield self._made(made)
        groups: dict[tuple[str, str], list[Stray]] = {}
        for stray in recording.inventory.strays if recording.complete else ():
            if stray.kind == OUTSIDE or (stray.plain and not _is_weight(stray, recording)):
                continue
            groups.setdefault((stray.holder, stray.attribute), []).append(stray)
        for (holder, attribute), strays in groups.items():
            yield self._found(recording, holder or ROOT, attribute, strays)

    def _made(self, made: Sequence[Operation]) -> Finding:
        number, many = len(made), len(made) > 1
        shapes = ", ".join(dict.fromkeys(str(shape) for operation in made for shape in operation.shapes))
        return self.finding(
            step=made[0].step,
            message=f"{number} parameter{'s are' if many else ' is'} made in the forward of {made[0].module or ROOT}, "
            "and the model does not know of " + ("them" if many else "it"),
            evidence=f"of shape {shapes}, from values that come from nowhere; the loss is computed from "
            f"{'them' if many else 'it'}",
            why="each forward has new ones, so what they learn is lost",
            fix="make the layer in __init__, as nn.LazyLinear or nn.LazyConv2d where its size is not known yet",
            location=made[0].location,
            cause="made in forward",
        )

    def _found(self, recording: Recording, holder: str, attribute: str, strays: list[Stray]) -> Finding:
        number, kind = len(strays), strays[0].kind
        many = number > 1
        form = "Dict" if kind == "dict" else "List"
        where = ROOT if holder == ROOT else repr(holder)
        users = (each for each in recording.operations if any(_uses(each, stray) for stray in strays))
        return self.finding(
            step=min(stray.step for stray in strays),
            message=f"{attribute!r} of {where} is a plain {kind}, so the model does not know of "
            + ("it" if kind == "tensor" else f"the {number} parameter{'s' * many} in it"),
            evidence=f"{'they' if many else 'it'} received gradients in several steps, "
            f"{'are' if many else 'is'} in no optimizer, and {'have' if many else 'has'} not moved",
            why=f"{'they keep their' if many else 'it keeps its'} initial values, and state_dict() and .to() leave "
            f"{'them' if many else 'it'} out",
            fix="make it an nn.Parameter"
            if kind == "tensor"
            else f"use nn.Module{form} for modules, nn.Parameter{form} for parameters",
            sites=tuple(stray.path for stray in strays),
            scope=summary(tuple(repr(stray.path) for stray in strays)),
            location=next((each.location for each in users), None),
            cause=f"{holder}.{attribute}",
        )


def _made_in_forward(flow: Flow) -> Iterator[Operation]:
    """The parameters of fresh values that a forward has made, and that a loss is computed from."""
    for operation in flow.operations:
        if (
            operation.name == "Parameter"
            and operation.location is not None
            and operation.location.function == "forward"
        ):
            beneath = [flow.by_index[index] for index in flow.upstream([operation])]
            learned = any(each.is_loss for each in flow.downstream(_users(flow, operation)))
            if learned and not any(each.parameters or strangers(each) for each in beneath):
                yield operation


def _users(flow: Flow, made: Operation) -> Iterator[Operation]:
    """The operations that use a new parameter, behind those that initialise it; none if it needs no gradient."""
    for operand, operation in flow.edges.get(made.index, ()):
        if operand.has_graph:
            yield operation
        elif operation.name.endswith("_"):
            yield from _users(flow, operation)


def _is_kept(recording: Recording) -> bool:
    """Whether the model has a parameter by now that receives gradients, and that the trace did not know."""
    known = flow_of(recording.operations).uses
    return any(each.contributions and each.path not in known for each in recording.parameters)


def _is_weight(stray: Stray, recording: Recording) -> bool:
    """Whether the trace shows a tensor of this shape, made by nobody, that is combined as a weight is.

    Itself, or what a function of it alone has made, such as the exponential of a scale.
    """
    alone = {each.index for each in recording.operations if len(each.operands) == 1 and _uses(each, stray)}
    return any(
        operation.name not in GATHERING
        and any(shape[:1] != stray.shape[:1] for shape in operation.shapes)
        and any(_is_like(operand, stray) and _is_unknown(operand, alone) for operand in operation.operands)
        for operation in recording.operations
        if len(operation.operands) > 1
    )


def _uses(operation: Operation, stray: Stray) -> bool:
    return any(_is_like(operand, stray) and _is_unknown(operand) for operand in operation.operands)


def _is_like(operand: Operand, stray: Stray) -> bool:
    return operand.has_graph and operand.shape == stray.shape


def _is_unknown(operand: Operand, alone: Collection[int] = ()) -> bool:
    """Whether it is no parameter of the model, and no operation has made it, but for some."""
    return not operand.parameter and (operand.operation is None or operand.operation in alone)
