"""What charts show of a run: a few numbers for each statistic and step, however many sites the model has.

For each of `GROUPS` they are the median, the 10th and 90th percentile over the sites, and the worst site, which is
the one furthest from the median in orders of magnitude.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gradscope.findings import Finding
from gradscope.records import Floats, Kind, Recording, Statistic, Step, StepEnd

QUANTILES = {"median": 0.5, "p10": 0.1, "p90": 0.9}
WORST = "worst"
RMS_OF = (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT, Kind.PARAMETER, Kind.PARAMETER_GRADIENT)
RATIO = "update/ratio"
GROUPS = (*(f"{kind}/rms" for kind in RMS_OF), RATIO)
SCALARS = tuple(f"{group}/{number}" for group in GROUPS for number in (*QUANTILES, WORST))


@dataclass(frozen=True, eq=False)
class Group:
    """One statistic, with an axis of steps and one of sites."""

    name: str
    sites: tuple[str, ...]
    values: Floats
    measured: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Digest:
    """What is shown of a group: one number per step and name. `culprits` index the worst sites."""

    group: Group
    numbers: dict[str, Floats]
    culprits: NDArray[np.intp]
    measured: NDArray[np.bool_]

    def scalars(self, row: int) -> Iterator[tuple[str, float]]:
        """The names, of those in `SCALARS`, and numbers of one step; none if nothing was measured in it."""
        if self.measured[row]:
            for name, numbers in self.numbers.items():
                yield f"{self.group.name}/{name}", float(numbers[row])


@dataclass
class Progress:
    """Remembers what of a growing recording has been written already: each step once, findings when they change."""

    last_step: int = -1
    _shown: tuple[tuple[Finding, ...], bool] | None = field(default=None, init=False)

    def new_steps(self, recording: Recording) -> tuple[Step, ...]:
        """The finished observed steps that were not there the last time."""
        steps = tuple(step for step in finished(recording) if step.index > self.last_step)
        self.last_step = steps[-1].index if steps else self.last_step
        return steps

    def news(self, recording: Recording, findings: tuple[Finding, ...]) -> bool:
        """Whether the findings have changed, or the run is over."""
        before, self._shown = self._shown, (findings, recording.complete)
        return before != self._shown


def finished(recording: Recording) -> tuple[Step, ...]:
    """The observed steps that are over."""
    return tuple(step for step in recording.observed if step.end is not StepEnd.OPEN or recording.complete)


def digests(recording: Recording, steps: tuple[Step, ...]) -> tuple[Digest, ...]:
    """What is shown of some of the observed steps of a recording, group by group."""
    return tuple(_digest(group) for group in _groups(replace(recording, steps=steps)))


def _groups(recording: Recording) -> Iterator[Group]:
    """The main statistics, each of shape (observed steps, sites)."""
    for kind in RMS_OF:
        paths = tuple(site.path for site in recording.sites_of(kind))
        measured = recording.values(kind, Statistic.COUNT) > 0
        yield Group(f"{kind}/rms", paths, recording.values(kind, Statistic.RMS), measured)
    yield _ratios(recording)


def _ratios(recording: Recording) -> Group:
    """Update rms over parameter rms, left out where the parameter is zero: it has no size to compare with."""
    columns = {site.path: column for column, site in enumerate(recording.sites_of(Kind.PARAMETER))}
    pairs = [(i, columns[s.path]) for i, s in enumerate(recording.sites_of(Kind.UPDATE)) if s.path in columns]
    above, below = [update for update, _ in pairs], [parameter for _, parameter in pairs]
    update = recording.values(Kind.UPDATE, Statistic.RMS)[:, above]
    parameter = recording.values(Kind.PARAMETER, Statistic.RMS)[:, below]
    updated = recording.values(Kind.UPDATE, Statistic.COUNT)[:, above] > 0
    sized = (recording.values(Kind.PARAMETER, Statistic.COUNT)[:, below] > 0) & (parameter != 0)
    paths = tuple(recording.sites_of(Kind.UPDATE)[column].path for column in above)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return Group(RATIO, paths, update / parameter, updated & sized)


def _digest(group: Group) -> Digest:
    finite = group.measured & np.isfinite(group.values)
    quantiles = _quantiles(np.where(finite, group.values, np.nan))
    culprits = _culprits(group, quantiles[0])
    worst = _at(group.values, culprits)
    numbers = dict(zip(QUANTILES, quantiles, strict=True)) | {WORST: np.where(np.isfinite(worst), worst, np.nan)}
    return Digest(group, numbers, culprits, np.asarray(group.measured.any(axis=1)))


def _quantiles(values: Floats) -> Floats:
    """Quantiles over the sites that are not NaN, of shape (quantiles, steps); NaN for a step without any."""
    result = np.full((len(QUANTILES), len(values)), np.nan)
    known = ~np.isnan(values).all(axis=1)
    if known.any():
        result[:, known] = np.nanquantile(values[known], list(QUANTILES.values()), axis=1)
    return result


def _culprits(group: Group, median: Floats) -> NDArray[np.intp]:
    """In each step the site that is not finite, else the one that is zero, else the one furthest from the median."""
    if not group.sites:
        return np.zeros(len(group.values), np.intp)
    smallest = np.finfo(float).tiny
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(np.log10(group.values) - np.log10(np.maximum(median, smallest))[:, None])
    ranked = np.where(np.isfinite(group.values), distance, np.nan)  # to argmax nothing is greater than NaN
    culprits: NDArray[np.intp] = np.where(group.measured, ranked, -1.0).argmax(axis=1)
    return culprits


def _at(values: Floats, columns: NDArray[np.intp]) -> Floats:
    """The value at one column of each row; NaN when there are no columns."""
    return values[np.arange(len(values)), columns] if values.shape[1] else np.full(len(values), np.nan)
