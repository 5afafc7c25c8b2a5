"""How gradients change over depth and over time, steadily or in one jump. Pure functions of a recording."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from math import inf, isnan, sqrt
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from gradscope.records import Floats, Kind, Recording, Site, Statistic, StepEnd

GRADIENT = Kind.ACTIVATION_GRADIENT

Decades: TypeAlias = tuple[int, tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Limits:
    """When gradients count as sloping: they change by `factor` in all, over at least `least_sites` sites.

    `correlation` is the least rank correlation between position and magnitude, `share` the most that one
    pair of neighbours may have of the whole change (in decades), and `steps` how many of the last observed
    steps with gradients must agree.
    """

    factor: float
    least_sites: int
    correlation: float
    share: float
    steps: int


@dataclass(frozen=True, eq=False)
class Slope:
    """Gradients that change steadily over depth, as they were in the last step that has any.

    `sites` are in forward order and `rms` (sites,) are their magnitudes; `start` is the step since when it
    has been so without a break. `steepest` is the module across which they change most, by the factor `gain`.
    """

    start: int
    sites: tuple[Site, ...]
    rms: Floats
    steepest: str
    gain: float

    @property
    def ends(self) -> tuple[tuple[str, float], tuple[str, float]]:
        """Path and magnitude of the smallest and of the largest."""
        low, high = int(self.rms.argmin()), int(self.rms.argmax())
        return (self.sites[low].path, float(self.rms[low])), (self.sites[high].path, float(self.rms[high]))


class Growth(NamedTuple):
    """Where in a row of norms they grew, from `usual` on; `last` is the position of the largest."""

    first: int
    last: int
    usual: float


def slope(recording: Recording, toward_input: Literal["falls", "grows"], limits: Limits) -> Slope | None:
    """The slope of the gradients, if they fall (or grow) from the loss toward the input as `limits` say."""
    latest = recording.once(_latest)
    if latest is None or min(map(_range, latest[1])) < np.log10(limits.factor):
        return None
    last, decades = latest
    sign = 1.0 if toward_input == "falls" else -1.0
    leaves = _leaves(recording.sites_of(GRADIENT))
    agreeing, least = list[int](), limits.steps
    for row, curves in chain([latest], _backwards(recording, last)):
        if not all(rises(sign * curve[leaves], limits) for curve in curves):
            break
        agreeing.append(row)
    else:  # a young run has fewer
        least = 0
    return _slope(recording, leaves, sign * decades[0][leaves], agreeing) if len(agreeing) >= least else None


def rises(curve: Floats, limits: Limits) -> bool:
    """Whether a curve over depth, in decades, rises steadily and far enough toward the loss."""
    seen = curve[np.isfinite(curve)]
    half = len(seen) // 2
    if len(seen) < limits.least_sites:
        return False
    rise = seen[half:].max() - seen[:half].min()
    return bool(
        rise >= np.log10(limits.factor)
        and np.abs(np.diff(seen)).max() <= limits.share * rise
        and _rank_correlation(seen) >= limits.correlation
    )


def gradient_norms(recording: Recording) -> Floats:
    """The norm of all parameter gradients as the optimizer used them, of shape (observed steps,).

    Inf where a gradient held NaN or Inf; NaN where nothing was measured or a gradient scaler skipped the step.
    """
    norms = recording.each(Kind.PARAMETER_GRADIENT, _norm)
    used = np.array([step.end is not StepEnd.CLEARED for step in recording.observed], bool)
    return np.where(used & (norms > 0), norms, np.nan)


def first_overflow(recording: Recording, norms: Floats) -> int | None:
    """The first step that used a gradient with NaN or Inf, observed or not."""
    seen = [recording.observed[row].index for row in np.flatnonzero(np.isinf(norms)).tolist()]
    told = [step.index for step in recording.notable if any(event.non_finite for event in step.events)]
    return min([*seen, *told], default=None)


def growth_at_end(norms: Floats, factor: float, window: int) -> Growth | None:
    """Whether the last norms, `window` at most, grew by `factor` over the median of their first half."""
    last = norms[-window:]
    usual = float(np.median(last[: len(last) // 2])) if len(last) > 1 else np.inf
    grown = np.any(last[-1:] >= factor * usual)
    return Growth(len(norms) - len(last), len(norms) - 1, usual) if grown else None


def steady_growth(norms: Floats, factor: float, window: int, least: int, share: float) -> Growth | None:
    """The first stretch of rising norms that grew by `factor` in `least` to `window` steps.

    No single step may have more than `share` of the growth (in decades).
    """
    if not len(norms) or norms.max() < factor * norms.min():
        return None
    decades, begin = np.log10(norms), 0
    for at in range(1, len(norms)):
        if norms[at] <= norms[at - 1]:
            begin = at
        first = max(begin, at - window)
        rise = decades[at] - decades[first]
        steepest = np.diff(decades[first : at + 1]).max(initial=0.0)
        if at - first >= least and rise >= np.log10(factor) and steepest <= share * rise:
            return Growth(first, at, float(norms[first]))
    return None


def update_ratio(recording: Recording, row: int) -> float:
    """The median over the parameters of update norm / weight norm in an observed step; NaN if not measured."""
    weights, updates = (_norms_by_path(recording, kind, row) for kind in (Kind.PARAMETER, Kind.UPDATE))
    ratios = [update / weights[path] for path, update in updates.items() if weights.get(path)]
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    return float(np.median(known)) if known else np.nan


def _norms_by_path(recording: Recording, kind: Kind, row: int) -> dict[str, float]:
    norms = recording.at(row, kind, Statistic.NORM).tolist()
    return {site.path: norm for site, norm in zip(recording.sites_of(kind), norms, strict=True)}


def _norm(stored: Floats) -> float:
    """The norm over all sites; Inf where one of them held NaN or Inf."""
    squares = float(stored[:, 2].sum())
    return inf if isnan(squares) else sqrt(squares)


def _backwards(recording: Recording, end: int | None = None) -> Iterator[Decades]:
    """The rows that hold gradients, from the last one (before `end`) back, each with their rms and norm in decades."""
    for row in reversed(range(len(recording.observed) if recording.sites_of(GRADIENT) else 0)[:end]):
        rms, norm = (_decades(recording.at(row, GRADIENT, each)) for each in (Statistic.RMS, Statistic.NORM))
        if np.isfinite(rms).any():
            yield row, (rms, norm)


def _latest(recording: Recording) -> Decades | None:
    """The first of these, which both directions of a slope begin with."""
    return next(_backwards(recording), None)


def _decades(values: Floats) -> Floats:
    """log10; NaN where there is no number above zero."""
    usable = np.isfinite(values) & (values > 0)
    return np.log10(np.where(usable, values, 1.0), out=np.full_like(values, np.nan), where=usable)


def _range(row: Floats) -> float:
    seen = row[np.isfinite(row)]
    return float(seen.max() - seen.min())


def _leaves(sites: Sequence[Site]) -> list[int]:
    """Sites of the modules that contain no other: a container repeats what its last child says."""
    containers = {""}.union(*(accumulate(site.module.split(".")[:-1], "{}.{}".format) for site in sites))
    kept = [column for column, site in enumerate(sites) if site.module not in containers]
    return kept or list(range(len(sites)))


def _rank_correlation(values: Floats) -> float:
    """Spearman's, between position and value; values of one decade count as equal, so that a wiggle is no order."""
    _, ties, counts = np.unique(np.round(values), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts + 1) / 2)[ties]
    return float(np.corrcoef(np.arange(len(values)), ranks)[0, 1])


def _slope(recording: Recording, leaves: Sequence[int], curve: Floats, rows: Sequence[int]) -> Slope:
    """Of a curve over the leaves in the first of these rows, which go from the last one back."""
    seen = np.flatnonzero(np.isfinite(curve)).tolist()
    sites = tuple(recording.sites_of(GRADIENT)[leaves[column]] for column in seen)
    rms = recording.at(rows[0], GRADIENT, Statistic.RMS)[[leaves[column] for column in seen]]
    module, source = _steepest(recording, sites, curve[seen])
    start = recording.observed[rows[-1]].index
    return Slope(start, sites, rms, sites[module].path, float(rms[source] / rms[module]))


def _steepest(recording: Recording, sites: Sequence[Site], curve: Floats) -> tuple[int, int]:
    """Rows of the module across which the curve changes most and of the one it computes from, or its neighbour."""
    rows = {site.module: row for row, site in reversed(list(enumerate(sites)))}
    known = recording.graph.sources
    edges = [(rows[module], rows[source]) for module in rows for source in known.get(module, ()) if source in rows]
    edges = edges or [(row + 1, row) for row in range(len(sites) - 1)]
    return max(edges, key=lambda edge: float(curve[edge[0]] - curve[edge[1]]))
