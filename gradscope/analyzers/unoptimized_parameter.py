"""A parameter receives gradients and is in no optimizer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity, summary
from gradscope.inventory import OUTSIDE, OptimizerInfo, Orphan
from gradscope.ownership import ENOUGH, by_hand, untrained
from gradscope.records import Recording


@dataclass(frozen=True)
class UnoptimizedParameter(Analyzer):
    """Trainable parameters that receive gradients and that no optimizer holds, while others of the model are trained.

    ## What it means
    The optimizer was given a part of the model only, and the rest is not frozen: a layer was forgotten, or is meant
    to stay as it is and computes gradients for nobody.

    ## Why it matters
    A forgotten layer keeps its initial values. One that is meant to stay costs the time and the memory of its
    gradients, which add up in `.grad` for ever if only the optimizer clears them.

    ## How it is measured
    By identity, at the end of the run: trainable, received gradients, is in no optimizer of the process, whether that
    has stepped or not, and has not changed since; and an optimizer has stepped other parameters of the same model at
    least twice. So it is for the parameters of a module that runs beside the model, such as a loss with weights of its
    own, if it is in training mode and a part of no other module.

    ## What it is not
    Frozen parameters and those that receive no gradient, parameters of an optimizer that has not stepped yet or made
    its steps in another part of the run, weights that the program moves itself (copies, averages, updates by
    hand), and a model whose gradients are a by-product (attacks, style transfer: no optimizer steps any of it).
    Where its module is in evaluation mode, as a perceptual loss is, it is a note.

    ## How to fix it
    Pass the parameters to the optimizer, or freeze them with `requires_grad_(False)`.

    ## Fires on
    >>> from gradscope.inventory import Inventory, OptimizerInfo, Orphan
    >>> from gradscope.testing import recording
    >>> head = OptimizerInfo("SGD", ("head.weight",), steps=5)
    >>> body = Orphan("body.weight", "body", (2, 2))
    >>> for found in UnoptimizedParameter().analyze(recording(inventory=Inventory((head,), (body,)), complete=True)):
    ...     print(found)
    WARNING  unoptimized-parameter   since step 0   'body.weight'
             'body.weight' receives gradients, and no optimizer holds it
             measured: in no optimizer of the process, and unchanged, while SGD stepped 1 other parameter 5 times
             why: it keeps the values it has, and its gradients are computed for nobody
             fix: pass it to the optimizer, or freeze it with requires_grad_(False)

    ## Silent on
    >>> list(UnoptimizedParameter().analyze(recording(inventory=Inventory((head,)), complete=True)))
    []

    ## Sources
    - PyTorch, "Autograd mechanics: setting requires_grad", https://docs.pytorch.org/docs/stable/notes/autograd.html
    """

    severity: ClassVar[Severity] = Severity.WARNING

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At the end of the run, one finding for those in training mode and one for the others."""
        if not recording.complete:
            return
        alone = (*untrained(recording), *_beside(recording))
        working = [each for each in recording.inventory.optimizers if each.parameters and each.steps >= ENOUGH]
        for quiet in (False, True):
            orphans = [orphan for orphan in alone if orphan.quiet is quiet]
            if orphans and working:
                yield self._found(recording, orphans, working[0], Severity.NOTE if quiet else Severity.WARNING)

    def _found(
        self, recording: Recording, orphans: list[Orphan], optimizer: OptimizerInfo, severity: Severity
    ) -> Finding:
        number, others = len(orphans), len(optimizer.parameters)
        names = summary(tuple(repr(orphan.path) for orphan in orphans), 2)
        many = number > 1
        them = "them" if many else "it"
        return self.finding(
            severity=severity,
            step=min(orphan.step for orphan in orphans),
            message=f"{names} receive{'' if many else 's'} gradients, and no optimizer holds {them}",
            evidence=f"in no optimizer of the process, and unchanged, while {optimizer.name} stepped {others} other "
            f"parameter{'s' * (others > 1)} {optimizer.steps} times",
            why=f"{'they keep the values they have, and their' if many else 'it keeps the values it has, and its'} "
            "gradients are computed for nobody",
            fix=f"pass {them} to the optimizer, or freeze {them} with requires_grad_(False)",
            sites=tuple(orphan.path for orphan in orphans),
            scope=f"{number} of {len(recording.parameters)} parameters" if many else "",
            location=optimizer.location,
            cause=severity.value,
        )


def _beside(recording: Recording) -> tuple[Orphan, ...]:
    """The parameters of modules that run beside the model, where no weights are moved by hand."""
    strays = () if by_hand(recording) else recording.inventory.strays
    return tuple(Orphan(each.path, each.holder, each.shape, each.step) for each in strays if each.kind == OUTSIDE)
