"""A module holds parameters in a plain list or dict, or as plain tensors, where the model does not know of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity, summary
from gradscope.inventory import OUTSIDE, Stray
from gradscope.records import ROOT, Recording
from gradscope.traces import Operand

# They take parts of a tensor, or put tensors side by side, so a batch may become another one.
GATHERING = frozenset(
    {"__getitem__", "cat", "concat", "concatenate", "gather", "hstack", "index_select", "stack", "vstack"}
)


@dataclass(frozen=True)
class UnregisteredParameter(Analyzer):
    """A module holds parameters in a plain list or dict or as plain tensors, so `model.parameters()` lacks them.

    ## What it means
    `self.layers = [nn.Linear(8, 8), nn.Linear(8, 8)]`: torch looks for parameters in attributes that are modules
    or parameters, and not into Python's containers; nor does it take `torch.ones(8, requires_grad=True)` for a
    parameter. The layers run and receive gradients, and nobody trains them.

    ## Why it matters
    They keep their initial values, are left behind by `.to(device)`, `.half()` and `.eval()`, and are missing in
    `state_dict()`, so that a saved model does not give them back.

    ## How it is measured
    By identity, at the end of the run: a parameter that a module of the model holds in a container, or that
    belongs to a module it so holds, is no parameter of the model, received gradients in more than one step, is in no
    optimizer of the process, and has not changed. A plain tensor counts where the traced step combines it with
    another one to a result of another first dimension, as a weight does and a batch of data does not.

    ## What it is not
    Learned inputs, latent codes and adversarial examples (no module holds them); a reference to a part of the model
    or to another model that an optimizer trains; a teacher without gradients; a part in evaluation
    mode, such as a perceptual loss that is kept out of `state_dict()` on purpose; points at which a model is
    differentiated with respect to its input.

    ## How to fix it
    Use `nn.ModuleList` or `nn.ModuleDict` for modules, `nn.ParameterList` or `nn.ParameterDict` for parameters, and
    `nn.Parameter` for a tensor.

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
        """At the end of the run, one finding for each attribute that holds some."""
        groups: dict[tuple[str, str], list[Stray]] = {}
        for stray in recording.inventory.strays if recording.complete else ():
            if stray.kind == OUTSIDE or (stray.plain and not _is_weight(stray, recording)):
                continue
            groups.setdefault((stray.holder, stray.attribute), []).append(stray)
        for (holder, attribute), strays in groups.items():
            yield self._found(holder or ROOT, attribute, strays)

    def _found(self, holder: str, attribute: str, strays: list[Stray]) -> Finding:
        number, kind = len(strays), strays[0].kind
        many = number > 1
        form = "Dict" if kind == "dict" else "List"
        where = ROOT if holder == ROOT else repr(holder)
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
            cause=f"{holder}.{attribute}",
        )


def _is_weight(stray: Stray, recording: Recording) -> bool:
    """Whether the trace shows a tensor of this shape, made by nobody, that is combined as a weight is."""
    return any(
        operation.name not in GATHERING
        and any(shape[:1] != stray.shape[:1] for shape in operation.shapes)
        and any(_may_be(operand, stray) for operand in operation.operands)
        for operation in recording.operations
        if len(operation.operands) > 1
    )


def _may_be(operand: Operand, stray: Stray) -> bool:
    made = operand.operation is not None or operand.parameter
    return operand.has_graph and not made and operand.shape == stray.shape
