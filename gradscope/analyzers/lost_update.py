"""Updates too small for the weights' precision: the optimizer steps, and nothing moves."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.loops import optimizer_steps
from gradscope.records import Floats, Kind, Recording, Site, Statistic, StepEnd
from gradscope.trends import gradient_norms

HALF = frozenset({"bfloat16", "float16"})
EPSILON = {
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    "float32": 2.0**-23,
    "complex64": 2.0**-23,
    "float64": 2.0**-52,
    "complex128": 2.0**-52,
}


class Moves(NamedTuple):
    """What one observed step did to the parameters that received a gradient, in arrays over them.

    `least` is the smallest change that an element of at least half the usual size can make.
    """

    sites: tuple[Site, ...]
    elements: Floats
    gradient: Floats
    update: Floats
    weight: Floats
    least: Floats


@dataclass(frozen=True)
class LostUpdate(Analyzer):
    """The optimizer steps, and the weights' bits do not move: rounding swallows the updates.

    ## What it means
    A floating point number has a smallest possible change: for a weight of 0.1 it is 0.0005 in bfloat16 and
    0.000000007 in float32. An update of less than half of it is rounded away, and the next step begins where this one
    did. Updates do not add up.

    ## Why it matters
    Most of the model stands still however long it trains. Only elements near zero move, so that the loss falls a
    little, which looks like slow learning.

    ## How it is measured
    In each observed step the largest update of a parameter is held against the smallest change that an element of half
    its root mean square can make. If it is below, then none of these elements has moved. That must hold for parameters
    with `share` of all elements, for `steps` observed steps on end, at a steady learning rate, while gradients are
    there. In float32, only a learning rate below the resolution itself (1.2e-7) counts. If no element at all moves
    although the learning rate times the gradient could be seen in the weights, the optimizer does not write.

    ## What it is not
    A warm-up or a schedule (the learning rate changes), a learning rate of zero, frozen groups, steps that a loss
    scaler skipped, convergence (the gradients fall, too), weights in float32 under autocast, stochastic rounding
    (each step moves some of the large elements), zero gradients.

    ## How to fix it
    Keep the weights in float32 and compute in bfloat16 under `torch.autocast`, or raise the learning rate.

    ## Fires on
    >>> from dataclasses import replace
    >>> from gradscope.testing import recording, step_event
    >>> def bfloat16(made):
    ...     return replace(made, sites=tuple(replace(site, dtype="bfloat16") for site in made.sites))
    >>> made = recording(
    ...     steps=8, parameter={"fc.weight": 0.1}, parameter_gradient={"fc.weight": 0.01}, update={"fc.weight": 1e-5},
    ...     events={step: [step_event(rate=1e-5)] for step in range(8)},
    ... )
    >>> for found in LostUpdate().analyze(bfloat16(made)):
    ...     print(found)
    WARNING  lost-update   since step 0   'fc.weight'
             the updates are lost in rounding: no bfloat16 weight of the usual size moves
             measured: in 'fc.weight' the largest update is 1.0e-05, the least possible change 2.0e-04 (100% of \
the elements, 8 observed steps; limit 90%, 8)
             why: what is rounded away does not add up, so these weights stay what they are
             fix: keep the weights in float32 and compute under torch.autocast, or raise the learning rate (1e-05)

    ## Silent on
    >>> list(LostUpdate().analyze(made))
    []

    ## Sources
    - Micikevicius et al., "Mixed Precision Training", ICLR 2018, https://arxiv.org/abs/1710.03740 (section 3.1).
    - Zamirai et al., "Revisiting BFloat16 Training", 2020, https://arxiv.org/abs/2010.06192.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.PARAMETER, Kind.PARAMETER_GRADIENT, Kind.UPDATE})

    share: float = field(
        default=0.9,
        metadata={"unit": "share of the elements", "reason": "small parameters may stand still, not the model"},
    )
    steps: int = field(
        default=8,
        metadata={"unit": "observed steps", "reason": "a warm-up, or float32 copies of the weights, move them by then"},
    )
    steady: float = field(
        default=2.0,
        metadata={"unit": "ratio of learning rates", "reason": "a schedule that passes by tiny rates is no fault"},
    )
    alive: float = field(
        default=0.01,
        metadata={"unit": "share of the largest gradient norm", "reason": "below it a model counts as converged"},
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding."""
        rows = [row for row, step in enumerate(recording.observed) if step.end is not StepEnd.CLEARED]
        if len(rows) < self.steps or not self._stands_still(recording, rows[-1]):
            return
        count = next((n for n, row in enumerate(reversed(rows)) if not self._stands_still(recording, row)), len(rows))
        if count < self.steps or not self._is_steady(recording, rows) or not self._is_alive(recording, rows[-count:]):
            return
        yield self._found(recording, rows[-count:])

    def _stands_still(self, recording: Recording, row: int) -> bool:
        moves = _moves(recording, row)
        lost = self._lost(moves, _rate(recording, row))
        total = float(moves.elements.sum())
        return total > 0 and float(moves.elements[lost].sum()) >= self.share * total

    def _lost(self, moves: Moves, rate: float | None) -> NDArray[np.bool_]:
        """Which parameters stand still for no other reason than rounding, or an optimizer that does not write."""
        sure = rate is not None and rate > 0  # else those of which nothing at all moves may be frozen
        small = (moves.update < moves.least) & ((moves.update > 0) | sure)
        coarse = np.array([site.dtype in HALF or _is_below(rate, site) for site in moves.sites], bool)
        unwritten = sure and not moves.update.any()
        visible = unwritten & ((rate or 0.0) * moves.gradient > 4 * moves.least)
        return small & (coarse | visible)

    def _is_steady(self, recording: Recording, rows: list[int]) -> bool:
        """Whether the learning rate has been the same, or, where it is not known, the updates have."""
        rates = [rate for row in rows if (rate := _rate(recording, row)) is not None]
        if len(rates) < len(rows):
            rates = recording.each(Kind.UPDATE, _norm)[rows].tolist()
        return 0 < max(rates) <= self.steady * min(rates)

    def _is_alive(self, recording: Recording, rows: list[int]) -> bool:
        norms = gradient_norms(recording)
        return bool(np.isfinite(norms[rows]).all() and norms[rows].min() >= self.alive * np.nanmax(norms))

    def _found(self, recording: Recording, rows: list[int]) -> Finding:
        moves, rate = _moves(recording, rows[-1]), _rate(recording, rows[-1])
        lost = self._lost(moves, rate)
        sites = tuple(site.path for site, chosen in zip(moves.sites, lost, strict=True) if chosen)
        largest = int(np.argmax(np.where(lost, moves.elements, -1.0)))
        site, unwritten = moves.sites[largest], not moves.update.any() and moves.sites[largest].dtype not in HALF
        unwritten = unwritten and not _is_below(rate, site)
        part = float(moves.elements[lost].sum() / moves.elements.sum())
        return self.finding(
            step=recording.observed[rows[0]].index,
            message="the optimizer steps and changes no weight at all"
            if unwritten
            else f"the updates are lost in rounding: no {site.dtype} weight of the usual size moves",
            evidence=f"in {site.path!r} the largest update is {moves.update[largest]:.1e}, the least possible change "
            f"{moves.least[largest]:.1e} ({part:.0%} of the elements, {len(rows)} observed steps; "
            f"limit {self.share:.0%}, {self.steps})",
            why="gradients are there, and nothing is made of them"
            if unwritten
            else "what is rounded away does not add up, so these weights stay what they are",
            fix=_fix(site, rate, unwritten=unwritten),
            sites=sites,
            scope=f"{len(sites)} of {len(moves.sites)} parameters" if len(moves.sites) > 1 else "",
            location=next((event.location for event in reversed(optimizer_steps(recording.observed[rows[-1]]))), None),
        )


def _fix(site: Site, rate: float | None, *, unwritten: bool) -> str:
    known = "" if rate is None else f" ({rate:.2g})"
    if unwritten:
        return "write in place in the optimizer's step, as in p.add_(update, alpha=-lr) under torch.no_grad()"
    if site.dtype in HALF:
        return f"keep the weights in float32 and compute under torch.autocast, or raise the learning rate{known}"
    return f"raise the learning rate{known}: it is below the resolution of {site.dtype}, {EPSILON[site.dtype]:.1e}"


def _moves(recording: Recording, row: int) -> Moves:
    """Of the parameters that received a gradient in an observed step."""
    weights, gradients, updates = (
        {site.path: column for column, site in enumerate(recording.sites_of(kind))}
        for kind in (Kind.PARAMETER, Kind.PARAMETER_GRADIENT, Kind.UPDATE)
    )
    paths = [path for path in updates if path in weights and path in gradients]
    columns = ([table[path] for path in paths] for table in (weights, gradients, updates))
    weight, gradient, update = (np.array(each, np.intp) for each in columns)
    count = recording.at(row, Kind.PARAMETER, Statistic.COUNT)[weight]
    rms = recording.at(row, Kind.PARAMETER, Statistic.RMS)[weight]
    received = recording.at(row, Kind.PARAMETER_GRADIENT, Statistic.ABS_MAX)[gradient]
    moved = recording.at(row, Kind.UPDATE, Statistic.ABS_MAX)[update]
    sites = recording.sites_of(Kind.PARAMETER)
    least = np.array([EPSILON.get(sites[column].dtype, 0.0) for column in weight.tolist()]) * rms / 4
    fed = np.flatnonzero((received > 0) & np.isfinite(received) & np.isfinite(moved) & np.isfinite(rms))
    chosen = tuple(sites[column] for column in weight[fed].tolist())
    return Moves(chosen, count[fed], received[fed], moved[fed], rms[fed], least[fed])


def _rate(recording: Recording, row: int) -> float | None:
    """The lowest learning rate of an observed step, if all that stepped in it are known."""
    rates = [event.rate for event in optimizer_steps(recording.observed[row])]
    known = [rate for rate in rates if rate is not None]
    return min(known) if known and len(known) == len(rates) else None


def _is_below(rate: float | None, site: Site) -> bool:
    """Whether a gradient as large as the weights would be lost."""
    return rate is not None and rate < EPSILON.get(site.dtype, 0.0)


def _norm(stored: Floats) -> float:
    return float(np.sqrt(stored[:, 2].sum()))
