"""Which steps and sites held NaN or Inf. Pure functions of a recording."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradscope.records import STORED, Kind, Recording, Statistic, Step, StepEnd

SUM = STORED.index(Statistic.SUM)

Flags: TypeAlias = NDArray[np.bool_]


def first_bad(recording: Recording) -> int | None:
    """The first observed row that holds what no step may hold."""
    if _all_finite(recording):
        return None
    nan, _ = held(recording, Kind.ACTIVATION)
    gradients = _gradients(recording)
    outputs = nan.any(axis=1) & ~_harmless(recording)
    bad = np.flatnonzero(outputs | _weights(recording) | (gradients & ~_skipped(recording, gradients)))
    return int(bad[0]) if len(bad) else None


def passed_over(recording: Recording) -> int | None:
    """The first observed row in which an output held NaN that neither a gradient nor a weight has seen."""
    if _all_finite(recording):
        return None
    nan, _ = held(recording, Kind.ACTIVATION)
    rows = np.flatnonzero(nan.any(axis=1) & _harmless(recording))
    return int(rows[0]) if len(rows) else None


def first_told(recording: Recording) -> Step | None:
    """The first step that was not observed and whose sampled gradients held NaN or Inf when they were used."""
    told = [step for step in recording.steps if step.stored is None and any(event.non_finite for event in step.events)]
    if not told:
        return None
    finite = (recording.values(Kind.PARAMETER, Statistic.COUNT) > 0).any(axis=1) & ~anywhere(recording, Kind.PARAMETER)
    # Weights do not come back from NaN: what was finite later was not touched by it.
    sound = max((recording.observed[row].index for row in np.flatnonzero(finite).tolist()), default=-1)
    return next((step for step in told if step.index > sound), None)


def poisoned(recording: Recording, before: int | None = None) -> bool:
    """Whether weights held NaN or Inf, after a step before the given one or after any."""
    rows = [i for i, step in enumerate(recording.observed) if before is None or step.index < before]
    return bool(anywhere(recording, Kind.PARAMETER)[rows].any())


def with_bad_gradient(recording: Recording, step: int) -> tuple[str, ...]:
    """The parameters whose gradient was not finite in a step, as far as it was observed."""
    rows = [i for i, each in enumerate(recording.observed) if each.index == step]
    if not rows:
        return ()
    nan, inf = (table[rows[0]] for table in held(recording, Kind.PARAMETER_GRADIENT))
    sites = recording.sites_of(Kind.PARAMETER_GRADIENT)
    return tuple(sites[column].path for column in np.flatnonzero(nan | inf).tolist())


def new_inf(recording: Recording, row: int) -> Flags:
    """Outputs that hold Inf for the first time; where there is no earlier step, -Inf may be a mask and is left out."""
    inf = held(recording, Kind.ACTIVATION)[1]
    above = recording.values(Kind.ACTIVATION, Statistic.MAX)[row] == np.inf
    return np.asarray(inf[row] & ~inf[:row].any(axis=0) & (above | (row > 0)))


def held(recording: Recording, kind: Kind) -> tuple[Flags, Flags]:
    """Where a kind holds NaN and where it holds Inf, each of shape (observed steps, sites)."""
    return recording.values(kind, Statistic.NAN) == 1, recording.values(kind, Statistic.INF) == 1


def anywhere(recording: Recording, kind: Kind) -> Flags:
    """Where a kind holds NaN or Inf at any site, of shape (observed steps,)."""
    nan, inf = held(recording, kind)
    return np.asarray((nan | inf).any(axis=1))


def _all_finite(recording: Recording) -> bool:
    """At the price of one sum a step: NaN and Inf stay in a sum."""
    return all(np.isfinite(step.stored[:, SUM].sum()) for step in recording.observed if step.stored is not None)


def _weights(recording: Recording) -> Flags:
    return anywhere(recording, Kind.UPDATE) | anywhere(recording, Kind.PARAMETER)


def _gradients(recording: Recording) -> Flags:
    return anywhere(recording, Kind.ACTIVATION_GRADIENT) | anywhere(recording, Kind.PARAMETER_GRADIENT)


def _harmless(recording: Recording) -> Flags:
    """The rows whose gradients were used and, like the weights, finite: what else was there was not learnt from."""
    used = (recording.values(Kind.UPDATE, Statistic.COUNT) > 0).any(axis=1)
    return np.asarray(used & ~_gradients(recording) & ~_weights(recording))


def _skipped(recording: Recording, overflow: Flags) -> Flags:
    """The rows whose gradients no step used, of shape (observed steps,)."""
    cleared, opened = (
        np.array([step.end is end for step in recording.observed], bool) for end in (StepEnd.CLEARED, StepEnd.OPEN)
    )
    # A fused optimizer runs when a scaler skips a step, and moves nothing. fmax passes over what was not measured.
    still = np.fmax.reduce(recording.values(Kind.UPDATE, Statistic.ABS_MAX), axis=1, initial=np.nan) == 0
    # Where a scaler has skipped a step before, one that is still open may be skipped as well.
    return np.asarray(cleared | still | (opened & bool((overflow & (cleared | still)).any())))
