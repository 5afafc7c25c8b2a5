"""Weights that were one tensor are two."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.inventory import BrokenTie as Broken
from gradscope.records import ROOT, Recording


@dataclass(frozen=True)
class BrokenTie(Analyzer):
    """Two parameters that should be one, and are two tensors that began with equal values.

    ## What it means
    Tied weights are one tensor under two names. Loading a state with `assign=True`, moving parameters one by one, or
    copying an embedding into an output layer gives two tensors of equal values, and training drives them apart.

    ## Why it matters
    Each learns from a part of the gradient only, the model has more parameters than it should, and a
    checkpoint of it ties them again to one of the two.

    ## How it is measured
    Two names that stood for one parameter stand for two with equal values, after a change of the model while it is
    watched. Or, when watching begins, the weight of an embedding and that of a linear layer are bitwise equal, not
    constant, and two tensors. Both then receive gradients.

    ## What it is not
    Layers that begin as copies of one another (only an embedding and a linear layer count), a head that was replaced
    by a fresh one (its values differ), target networks and averages (no gradients), weights that share their memory.

    ## How to fix it
    Tie them again after loading: `head.weight = embedding.weight`, or `model.tie_weights()` where there is one.

    ## Fires on
    >>> from gradscope.inventory import BrokenTie as Broken, Inventory
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.testing import recording
    >>> both = [ParameterInfo(f"{name}.weight", name, contributions=5) for name in ("embed", "head")]
    >>> apart = Broken("embed.weight", "head.weight", step=2, lost=True)
    >>> for found in BrokenTie().analyze(recording(parameters=both, inventory=Inventory(ties=(apart,)))):
    ...     print(found)
    WARNING  broken-tie   since step 2   'embed.weight', 'head.weight'
             'embed.weight' and 'head.weight' were one parameter and are two since step 2
             measured: two tensors of equal values under names that stood for one, and both receive gradients
             why: each learns from a part of the gradient only, and they drift apart
             fix: tie them again: head.weight = embed.weight, after loading or moving the model

    ## Silent on
    >>> list(BrokenTie().analyze(recording(parameters=both)))
    []

    ## Sources
    - Press and Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017,
      https://arxiv.org/abs/1608.05859
    - PyTorch, "torch.nn.Module.load_state_dict" (assign),
      https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
    """

    severity: ClassVar[Severity] = Severity.WARNING

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each pair of which both parts learn."""
        if not recording.inventory.ties:
            return
        learning = {parameter.path for parameter in recording.parameters if parameter.contributions}
        for tie in recording.inventory.ties:
            if {tie.first, tie.second} <= learning:
                yield self._found(tie)

    def _found(self, tie: Broken) -> Finding:
        since = f"were one parameter and are two since step {tie.step}" if tie.lost else "are two copies of one weight"
        how = (
            "two tensors of equal values under names that stood for one"
            if tie.lost
            else "an embedding and a linear layer, bitwise equal when training began, but two tensors"
        )
        return self.finding(
            step=tie.step,
            message=f"{tie.first!r} and {tie.second!r} {since}",
            evidence=f"{how}, and both receive gradients",
            why="each learns from a part of the gradient only, and they drift apart",
            fix=f"tie them again: {tie.second or ROOT} = {tie.first or ROOT}, after loading or moving the model",
            sites=(tie.first, tie.second),
            cause=f"{tie.first} {tie.second}",
        )
