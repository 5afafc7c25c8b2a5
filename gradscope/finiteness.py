"""Which steps and sites held NaN or Inf. Pure functions of a recording."""

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradscope.records import NOTHING, Kind, Recording, Statistic, Step, StepEnd

Flags: TypeAlias = NDArray[np.bool_]


def first_bad(recording: Recording) -> int | None:
    """The first observed row that holds what no step may hold."""
    rows, odd = _odd(recording)
    if not rows:
        return None
    nan, _ = held(odd, Kind.ACTIVATION)
    gradients = _gradients(odd)
    outputs = nan.any(axis=1) & ~_harmless(odd)
    bad = np.flatnonzero(outputs | _weights(odd) | (gradients & ~_skipped(odd, gradients)))
    return rows[bad[0]] if len(bad) else None


def passed_over(recording: Recording) -> int | None:
    """The first observed row in which an output held NaN that neither a gradient nor a weight has seen."""
    rows, odd = _odd(recording)
    if not rows:
        return None
    nan, _ = held(odd, Kind.ACTIVATION)
    quiet = np.flatnonzero(nan.any(axis=1) & _harmless(odd))
    return rows[quiet[0]] if len(quiet) else None


def first_told(recording: Recording) -> Step | None:
    """The first step that was not observed and whose sampled gradients held NaN or Inf when they were used."""
    told = [s for s in recording.notable if s.stored is None and any(event.non_finite for event in s.events)]
    if not told:
        return None
    finite = (recording.values(Kind.PARAMETER, Statistic.COUNT) > 0).any(axis=1) & ~anywhere(recording, Kind.PARAMETER)
    # Weights do not come back from NaN: what was finite later was not touched by it.
    sound = max((recording.observed[row].index for row in np.flatnonzero(finite).tolist()), default=-1)
    return next((step for step in told if step.index > sound), None)


def poisoned(recording: Recording, before: int | None = None) -> bool:
    """Whether weights held NaN or Inf, after a step before the given one or after any."""
    steps = tuple(step for step in recording.notable if before is None or step.index < before)
    return bool(steps and anywhere(replace(recording, steps=steps), Kind.PARAMETER).any())


def with_bad_gradient(recording: Recording, step: int) -> tuple[str, ...]:
    """The parameters whose gradient was not finite in a step, as far as it was observed."""
    rows = [i for i, each in enumerate(recording.observed) if each.index == step]
    if not rows:
        return ()
    nan, inf = held_in(recording, rows[0], Kind.PARAMETER_GRADIENT)
    sites = recording.sites_of(Kind.PARAMETER_GRADIENT)
    return tuple(sites[column].path for column in np.flatnonzero(nan | inf).tolist())


def new_inf(recording: Recording, row: int) -> Flags:
    """Outputs that hold Inf for the first time; where there is no earlier step, -Inf may be a mask and is left out."""
    _, inf = held_in(recording, row, Kind.ACTIVATION)
    _, earlier = _odd(replace(recording, steps=recording.observed[:row]))
    above = recording.at(row, Kind.ACTIVATION, Statistic.MAX) == np.inf
    return np.asarray(inf & ~held(earlier, Kind.ACTIVATION)[1].any(axis=0) & (above | (row > 0)))


def pattern(step: Step) -> bytes:
    """Which sites of a step were measured, and which held NaN, Inf or nothing but zeros."""
    stored = NOTHING if step.stored is None else step.stored
    count, _, squares, low, high = stored.T
    return np.packbits([count > 0, np.isnan(low), np.isinf(low), np.isinf(high), squares == 0]).tobytes()


def held(recording: Recording, kind: Kind) -> tuple[Flags, Flags]:
    """Where a kind holds NaN and where it holds Inf, each of shape (observed steps, sites)."""
    return recording.values(kind, Statistic.NAN) == 1, recording.values(kind, Statistic.INF) == 1


def held_in(recording: Recording, row: int, kind: Kind) -> tuple[Flags, Flags]:
    """The same of one observed row, each of shape (sites,)."""
    return recording.at(row, kind, Statistic.NAN) == 1, recording.at(row, kind, Statistic.INF) == 1


def anywhere(recording: Recording, kind: Kind) -> Flags:
    """Where a kind holds NaN or Inf at any site, of shape (observed steps,)."""
    nan, inf = held(recording, kind)
    return np.asarray((nan | inf).any(axis=1))


def _odd(recording: Recording) -> tuple[list[int], Recording]:
    """The observed rows that hold NaN or Inf, and a recording of them alone: what is finite need not be looked at."""
    rows = [row for row, step in enumerate(recording.observed) if not step.finite]
    return rows, replace(recording, steps=tuple(recording.observed[row] for row in rows))


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
