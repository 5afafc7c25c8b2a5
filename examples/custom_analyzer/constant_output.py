"""A module gives the same number for whatever comes in."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope import Analyzer, Finding, Kind, Recording, Severity, Statistic


@dataclass(frozen=True)
class ConstantOutput(Analyzer):
    """A module gives one and the same number, for every sample and in every step.

    ## What it means
    Each element of the output is equal to all others. A softmax over a dimension of size 1 does that: its
    result is 1, whatever the logits are.

    ## Why it matters
    What is always the same tells nothing about the input, and no gradient comes back through it.

    ## How it is measured
    The smallest and the largest element of the output are equal in each of the last `steps` observed steps.

    ## What it is not
    A head that begins at zero (its first update ends that), and an output of one element only.

    ## How to fix it
    Look at the dimension that the module works on. With one logit per sample, use a sigmoid.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> same = recording(activation={"head": 0.0}, steps=5)
    >>> [found.message for found in ConstantOutput().analyze(same)]
    ["every element that 'head' gives is 0"]

    ## Silent on
    >>> list(ConstantOutput().analyze(recording(activation={"head": [0.0, 0.5, 0.4, 0.6, 0.5]}, steps=5)))
    []

    ## Sources
    - PyTorch, "Softmax", https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
    """

    severity: ClassVar[Severity] = Severity.WARNING
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.ACTIVATION})

    steps: int = field(
        default=5, metadata={"unit": "observed steps", "reason": "a head that begins at zero moves in the second"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """One finding for each such module."""
        count, low, high = (
            recording.values(Kind.ACTIVATION, statistic)[-self.steps :]
            for statistic in (Statistic.COUNT, Statistic.MIN, Statistic.MAX)
        )
        if len(low) < self.steps:
            return
        constant = ((low == high) & (low == low[-1]) & (count > 1)).all(axis=0)
        for column in constant.nonzero()[0].tolist():
            site = recording.sites_of(Kind.ACTIVATION)[column]
            yield self.finding(
                step=recording.observed[-self.steps].index,
                sites=(site.path,),
                message=f"every element that {site.path!r} gives is {high[-1, column]:g}",
                evidence=f"the smallest and the largest of {count[-1, column]:.0f} elements are equal, "
                f"in each of {self.steps} observed steps",
                why="what is always the same tells nothing about the input, and no gradient comes back through it",
                fix=f"look at the dimension that {site.module_type} works on; with one logit use a sigmoid",
                cause=site.path,
            )
