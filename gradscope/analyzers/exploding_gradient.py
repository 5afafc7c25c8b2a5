"""Gradients grow by orders of magnitude, over depth or over time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.records import ROOT, Floats, Kind, Recording
from gradscope.recurrence import Chain, growing
from gradscope.trends import (
    Limits,
    Slope,
    first_overflow,
    gradient_norms,
    growth_at_end,
    slope,
    steady_growth,
    update_ratio,
)

CALM = "lower the learning rate, or clip with torch.nn.utils.clip_grad_norm_ before the step"


@dataclass(frozen=True)
class ExplodingGradient(Analyzer):
    """Gradients grow by orders of magnitude on their way back through the layers, or from step to step.

    ## What it means
    Over depth: the local derivatives that backpropagation multiplies are above 1 in most layers, mostly because
    of too large initial weights. Over time: each step overshoots further than the one before, mostly because of
    too large a learning rate.

    ## Why it matters
    Updates overshoot, the loss climbs, and in the end numbers overflow to Inf and NaN, from which the weights
    do not come back.

    ## How it is measured
    Over depth, as in `vanishing-gradient`, with a growth of `growth` toward the input. Where one weight is used
    `least_calls` times or more in a row, as in a recurrence, by the same growth from its last use to its first one,
    in a traced step. Over time, the norm of
    all parameter gradients as the optimizer used them: above `level` times the median of all earlier steps and
    above `start` times the largest of the first ones, for `steps` observed steps on end. If the norm grew by
    `runaway` within the last `window` observed steps and then became NaN or Inf, it is an error.

    ## What it is not
    Single spikes of a hard batch; the larger gradients of a converged model that meets new data or a restarted
    schedule (still not above its own first steps); gradients that were clipped; a loss scale (the optimizer's
    gradients are unscaled, and skipped steps do not count); two networks that take turns; one jump over depth,
    from a temperature or the weight of an auxiliary loss.

    ## How to fix it
    Over depth, initialise with a smaller gain or add normalisation. Over time, lower the learning rate, warm it
    up, or clip the gradients.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> norms = {"fc.weight": [1.0, 30.0, 900.0, 3e4, 1e6, float("inf")]}
    >>> for found in ExplodingGradient().analyze(recording(steps=6, parameter_gradient=norms)):
    ...     print(found)
    ERROR    exploding-gradient   since step 3   'fc.weight'
             the gradients grew 6e+04-fold from step 0 to step 4, then became NaN or Inf
             measured: gradient norm 6.2e+01 at first, 4.0e+06 in step 4, not finite in step 5 (limit 1e+04-fold)
             why: each step overshoots further than the one before
             fix: lower the learning rate, or clip with torch.nn.utils.clip_grad_norm_ before the step

    ## Silent on
    >>> norms = {"fc.weight": [1.0, 0.9, 0.8, 0.8, 500.0, 0.7]}
    >>> list(ExplodingGradient().analyze(recording(steps=6, parameter_gradient=norms)))
    []

    ## Sources
    - Pascanu, Mikolov and Bengio, "On the Difficulty of Training Recurrent Neural Networks", ICML 2013.
    - Philipp, Song and Carbonell, "The Exploding Gradient Problem Demystified", arXiv:1712.05577.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.ACTIVATION_GRADIENT, Kind.PARAMETER_GRADIENT})
    explains: ClassVar[frozenset[str]] = frozenset({"non-finite-value"})

    growth: float = field(
        default=1e4, metadata={"unit": "ratio over depth", "reason": "networks that train grow by less than 1e3"}
    )
    least_sites: int = field(
        default=4, metadata={"unit": "modules", "reason": "fewer points are no slope, only a difference"}
    )
    least_calls: int = field(
        default=8, metadata={"unit": "uses of a weight", "reason": "a recurrence, and not a module that is shared"}
    )
    correlation: float = field(
        default=0.9, metadata={"unit": "rank correlation", "reason": "batch-normalised networks come as near as 0.84"}
    )
    share: float = field(
        default=0.5,
        metadata={"unit": "share of the decades", "reason": "a single jump comes from a scale factor, not from depth"},
    )
    steps: int = field(default=3, metadata={"unit": "observed steps", "reason": "one odd batch proves nothing"})
    level: float = field(
        default=100.0, metadata={"unit": "times the median", "reason": "loss spikes of healthy runs stay below it"}
    )
    history: int = field(
        default=5, metadata={"unit": "observed steps", "reason": "a median of fewer is not typical of anything"}
    )
    start: float = field(
        default=30.0,
        metadata={"unit": "times the first steps", "reason": "a converged model on wrong labels came back 15-fold"},
    )
    runaway: float = field(
        default=1e4, metadata={"unit": "ratio over time", "reason": "what it takes to tell growth from a sudden NaN"}
    )
    window: int = field(
        default=10, metadata={"unit": "observed steps", "reason": "long enough for a divergence, short for a run"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding over depth, or over the uses of one weight, and one over time."""
        limits = Limits(self.growth, self.least_sites, self.correlation, self.share, self.steps)
        steady = slope(recording, "grows", limits)
        chain = growing(recording, replace(limits, least_sites=self.least_calls)) if steady is None else None
        if steady is not None:
            yield self._over_depth(steady)
        if chain is not None:
            yield self._over_calls(chain)
        norms = gradient_norms(recording)
        over_time = self._growth(recording, norms) or self._level(recording, norms)
        if over_time is not None:
            yield over_time

    def _over_depth(self, slope: Slope) -> Finding:
        (last, low), (first, high) = slope.ends
        large = slope.rms > low * self.growth
        sites = tuple(site.path for site, chosen in zip(slope.sites, large, strict=True) if chosen)
        return self.finding(
            step=slope.start,
            message=f"the gradient grows {high / low:.0e}-fold on its way back from {last!r} to {first!r}",
            evidence=f"rms {low:.1e} at {last!r}, {high:.1e} at {first!r}, limit {self.growth:.0e}-fold; "
            f"steepest: times {slope.gain:.1g} across {slope.steepest!r}",
            why="the first layers get updates that overshoot, and a little more growth overflows to Inf",
            fix="initialise with a smaller gain (kaiming for ReLU, xavier for tanh), or add normalisation",
            sites=sites,
            scope=f"{len(sites)} of {len(slope.sites)} modules",
            cause="depth",
        )

    def _over_calls(self, chain: Chain) -> Finding:
        last, high, low = chain.operations[-1], float(chain.gradient[0]), float(chain.gradient[-1])
        place = repr(last.module) if last.module else ROOT
        return self.finding(
            step=last.step,
            message=f"the gradient grows {high / low:.0e}-fold on its way back through {len(chain.operations)} uses of "
            f"{last.parameters[0]!r}",
            evidence=f"largest element {low:.1e} behind the last {last.name} in {place}, {high:.1e} behind the first, "
            f"limit {self.growth:.0e}-fold",
            why="each use multiplies it once more, and longer sequences overflow to Inf",
            fix="initialise with a smaller gain (orthogonal for a recurrence), or use gated cells or normalisation",
            sites=last.parameters,
            location=last.location,
            cause="depth",
        )

    def _growth(self, recording: Recording, norms: Floats) -> Finding | None:
        """Growth within a few steps: into NaN or Inf, or steadily."""
        end = first_overflow(recording, norms)
        finite = np.flatnonzero(np.isfinite(norms)).tolist()
        rows = [row for row in finite if end is None or recording.observed[row].index < end]
        past = norms[rows]
        broken = growth_at_end(past, self.runaway, self.window) if end is not None else None
        growth = broken or steady_growth(past, self.runaway, self.window, self.steps, self.share)
        if growth is None or not (broken or past[growth.last] > self.start * past[: growth.first + 1].max()):
            return None
        first, last = (recording.observed[rows[at]].index for at in (growth.first, growth.last))
        return self._over_time(
            recording,
            next((row for row in rows[growth.first :] if norms[row] > self.level * growth.usual), rows[growth.last]),
            severity=Severity.ERROR if broken else self.severity,
            message=f"the gradients grew {past[growth.last] / growth.usual:.0e}-fold from step {first} to step {last}"
            + ", then became NaN or Inf" * bool(broken),
            evidence=f"gradient norm {growth.usual:.1e} at first, {past[growth.last]:.1e} in step {last}, "
            + f"not finite in step {end} " * bool(broken)
            + f"(limit {self.runaway:.0e}-fold)",
        )

    def _level(self, recording: Recording, norms: Floats) -> Finding | None:
        """A norm far above its own past, for several observed steps on end."""
        rows = np.flatnonzero(np.isfinite(norms)).tolist()
        past = norms[rows]
        # Once the run's first steps have left the recording, its first half stands for them.
        first = self.history if recording.steps and recording.steps[0].index == 0 else len(past) // 2
        at = self._risen(past, max(first, self.history))
        if at is None:
            return None
        usual = float(np.median(past[:at]))
        return self._over_time(
            recording,
            rows[at],
            message=f"the gradients rose to {past[at] / usual:.0f} times their usual norm and stayed there",
            evidence=f"gradient norm {usual:.1e} (median before), {past[at : at + self.steps].min():.1e} or "
            f"more in {self.steps} observed steps on end (limit {self.level:.0f} times)",
        )

    def _risen(self, past: Floats, first: int) -> int | None:
        """Where a norm begins to stay above its own past and its first steps."""
        if len(past) < first + self.steps:
            return None
        held = np.lib.stride_tricks.sliding_window_view(past, self.steps).min(axis=1)
        suspects = np.flatnonzero(held[first:] > self.start * past[:first].max()) + first
        return next((at for at in suspects.tolist() if held[at] > self.level * np.median(past[:at])), None)

    def _over_time(self, recording: Recording, row: int, **fields: object) -> Finding:
        sites = tuple(site.path for site in recording.sites_of(Kind.PARAMETER_GRADIENT))
        ratio = update_ratio(recording, row)
        moved = "" if np.isnan(ratio) else f"; this one's median update was {ratio:.1%} of the weights"
        return self.finding(
            step=recording.observed[row].index,
            why="each step overshoots further than the one before" + moved,
            fix=CALM,
            sites=sites,
            scope=f"{len(sites)} parameters" if len(sites) > 1 else "",
            cause="time",
            **fields,
        )
