"""Units of a layer that are equal and stay equal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.inventory import Likeness
from gradscope.records import Kind, Recording, Statistic


@dataclass(frozen=True)
class SymmetricUnits(Analyzer):
    """All units of a layer began equal, received equal gradients, and are still equal after training.

    ## What it means
    Units with equal weights compute the same, and what follows them treats them the same, so that they receive the
    same gradient and take the same steps. A layer that begins with one constant is a layer of one unit, however wide.

    ## Why it matters
    The layer has the capacity of a single unit, and no amount of training changes that.

    ## How it is measured
    When the run is over, each trainable weight is looked at once: do all its rows, or all its columns, still hold the
    same values? They differ by no more than `difference` of how far the weight has moved, which is the sum of the
    largest updates in the observed steps, `steps` of which moved it by gradients that were not zero.

    ## What it is not
    Zero-initialised heads, gates and low-rank adapters, norms that begin with ones (their units receive different
    gradients, and differ after one step), weights that are frozen or have not moved, vectors, a few equal rows among
    others, products of zeros (`zero-gradient`).

    ## How to fix it
    Draw the weights at random: `torch.nn.init.kaiming_uniform_`, `torch.nn.init.xavier_uniform_`.

    ## Fires on
    >>> from gradscope.inventory import Inventory
    >>> from gradscope.testing import recording
    >>> given = {"parameter_gradient": {"fc.weight": 1.0}, "update": {"fc.weight": 0.01}}
    >>> alike = Inventory(likenesses=(Likeness("fc.weight", 16),))
    >>> for found in SymmetricUnits().analyze(recording(**given, inventory=alike, complete=True)):
    ...     print(found)
    ERROR    symmetric-units   since step 0   'fc.weight'
             the 16 rows of 'fc.weight' are equal, and training does not tell them apart
             measured: they differ by 0.0e+00 at most, after 5 observed steps that moved them by 5.0e-02 (limit 0.1%)
             why: equal units receive equal gradients, so the layer is worth one unit, however wide it is
             fix: draw the weights at random, as torch.nn.init.kaiming_uniform_ does

    ## Silent on
    >>> list(SymmetricUnits().analyze(recording(**given, complete=True)))
    []

    ## Sources
    - Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 8.4 (breaking the symmetry between units).
    """

    severity: ClassVar[Severity] = Severity.ERROR
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.PARAMETER_GRADIENT, Kind.UPDATE})

    difference: float = field(
        default=1e-3,
        metadata={"unit": "share of the movement", "reason": "rounding differs from row to row, by far less than that"},
    )
    steps: int = field(
        default=5,
        metadata={"unit": "observed steps", "reason": "the first steps of Adam and Lion are equal wherever signs are"},
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding, at the end of the run."""
        if not recording.complete or not recording.inventory.likenesses:
            return
        moved = _movements(recording)
        alike = [(each, *moved[each.path]) for each in recording.inventory.likenesses if each.path in moved]
        found = [each for each in alike if each[2] >= self.steps and each[0].spread <= self.difference * each[1]]
        if found:
            yield self._found(recording, found)

    def _found(self, recording: Recording, found: Sequence[tuple[Likeness, float, int]]) -> Finding:
        first, way, steps = found[0]
        lines = "columns" if first.columns else "rows"
        return self.finding(
            step=recording.observed[0].index,
            message=f"the {first.units} {lines} of {first.path!r} are equal, and training does not tell them apart",
            evidence=f"they differ by {first.spread:.1e} at most, after {steps} observed steps that moved them by "
            f"{way:.1e} (limit {self.difference:.1%})",
            why="equal units receive equal gradients, so the layer is worth one unit, however wide it is",
            fix="draw the weights at random, as torch.nn.init.kaiming_uniform_ does",
            sites=tuple(each.path for each, _, _ in found),
        )


def _movements(recording: Recording) -> dict[str, tuple[float, int]]:
    """How far each parameter was moved, and by how many observed steps with a gradient that was not zero."""
    gradients = {site.path: column for column, site in enumerate(recording.sites_of(Kind.PARAMETER_GRADIENT))}
    wanted = {each.path for each in recording.inventory.likenesses}
    found: dict[str, tuple[float, int]] = {}
    for column, site in enumerate(recording.sites_of(Kind.UPDATE)):
        if site.path in wanted and site.path in gradients:
            update = recording.values(Kind.UPDATE, Statistic.ABS_MAX, [column])[:, 0]
            own = [gradients[site.path]]
            gradient = recording.values(Kind.PARAMETER_GRADIENT, Statistic.ABS_MAX, own)[:, 0]
            moving = (update > 0) & (gradient > 0)
            found[site.path] = float(update[moving].sum()), int(moving.sum())
    return found
