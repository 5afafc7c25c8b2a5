"""Updates as large as the weights, and a loss that climbs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gradscope.analyzer import Analyzer, Request
from gradscope.findings import Finding, Severity
from gradscope.loops import optimizer_steps
from gradscope.records import Floats, Kind, Recording
from gradscope.trends import Limits, first_overflow, gradient_norms, slope, steady_growth

DEPTH = Limits(factor=1e4, least_sites=4, correlation=0.9, share=0.5, steps=3)


@dataclass(frozen=True)
class OversizedUpdate(Analyzer):
    """Single steps change the weights by as much as they are, and the training gets worse by it.

    ## What it means
    A gradient tells the slope at one point. A step that is a good part of the weights themselves leaves the region for
    which that slope was true, lands higher up, finds a steeper slope, and overshoots further.

    ## Why it matters
    The loss climbs, units die or saturate, and soon numbers overflow to Inf and NaN. What was learned before, or came
    from pretraining, is gone after the first such step.

    ## How it is measured
    In each observed step the norm of all updates together is divided by the norm of all weights after it, or by the
    norm with which PyTorch's layers begin, where that is larger: weights that begin near zero have yet to grow. A large
    ratio alone is no fault, so there has to be harm, too. Either gradients become NaN or Inf right after a step with a
    ratio of `whole`. Or the gradients grow `growth`-fold within `window` steps, all with a ratio of `ratio`, and are
    `held` times what they were after `patience` steps. Or `steps` observed steps had such a ratio, which add up to
    `way` or leave gradients `climb` times the first one, and traces of `looks` steps after `patience` steps (of fewer,
    if the run ends before) all find a loss `climb` times the first one. If in so many steps the ratio was `whole`, so
    that they replaced the weights, losses above the first one are harm enough.

    ## What it is not
    The first steps of Adam and small heads (a large ratio, but the loss falls), weights that begin near zero while the
    task gets harder, single samples of which some are harder than the first, toy problems with a large learning rate
    that find their way, warm restarts, single spikes, weights so badly initialised that gradients grow over depth
    (`exploding-gradient`), NaN from a logarithm or a division (updates are small then).

    ## How to fix it
    Lower the learning rate, mostly by a factor of ten or more; warm it up, or clip the gradients.

    ## Fires on
    >>> from gradscope.testing import recording, step_event
    >>> made = recording(
    ...     steps=4, parameter={"fc.weight": [1.0, 9.0, 80.0, 700.0]}, update={"fc.weight": [0.9, 8.5, 75.0, 690.0]},
    ...     parameter_gradient={"fc.weight": [1.0, 9.0, 80.0, float("nan")]},
    ...     events={step: [step_event(rate=10.0)] for step in range(4)},
    ... )
    >>> for found in OversizedUpdate().analyze(made):
    ...     print(found)
    WARNING  oversized-update   since step 0   'fc.weight'
             the updates are as large as the weights, and in step 3 gradients are NaN or Inf
             measured: norm of the update / norm of the weights: 90% in step 0, 94% in step 2 (limit 50%)
             why: such a step leaves the region for which the gradient was true, and the next one overshoots further
             fix: lower the learning rate (10), warm it up, or clip with torch.nn.utils.clip_grad_norm_ before the step

    ## Silent on
    >>> made = recording(
    ...     steps=30, parameter={"fc.weight": 1.0}, update={"fc.weight": 0.3}, parameter_gradient={"fc.weight": 0.1}
    ... )
    >>> list(OversizedUpdate().analyze(made))
    []

    ## Sources
    - Karpathy, "CS231n: Neural Networks Part 3", https://cs231n.github.io/neural-networks-3/.
    - Braiek and Khomh, "Testing Feedforward Neural Networks Training Programs", 2022, https://arxiv.org/abs/2204.00694.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.PARAMETER, Kind.UPDATE})
    explains: ClassVar[frozenset[str]] = frozenset(
        {"dead-units", "exploding-gradient", "non-finite-value", "saturated-activation", "vanishing-gradient"}
    )

    ratio: float = field(
        default=0.1,
        metadata={"unit": "share of the weights", "reason": "0.001 is usual (CS231n), 0.1 a limit (TheDeepChecker)"},
    )
    whole: float = field(
        default=0.5,
        metadata={"unit": "share of the weights", "reason": "the weights are replaced, not changed"},
    )
    way: float = field(
        default=2.0, metadata={"unit": "times the weights", "reason": "Adam with a rate of 0.1 moves 1.5 at first"}
    )
    growth: float = field(
        default=1e3, metadata={"unit": "ratio over time", "reason": "gradients of healthy runs do not grow so in steps"}
    )
    window: int = field(
        default=10, metadata={"unit": "observed steps", "reason": "long enough for a divergence, short for a run"}
    )
    held: float = field(
        default=10.0, metadata={"unit": "times the first gradient", "reason": "below it a run has found its way back"}
    )
    steps: int = field(
        default=3, metadata={"unit": "observed steps", "reason": "of fewer steps, one odd batch could be the reason"}
    )
    climb: float = field(
        default=2.0,
        metadata={"unit": "times the first loss and gradient", "reason": "batches differ, mostly by less than twofold"},
    )
    patience: int = field(
        default=16, metadata={"unit": "steps", "reason": "a large learning rate may overshoot first and then recover"}
    )
    looks: int = field(
        default=3, metadata={"unit": "traced steps", "reason": "one batch may be harder than the first by chance"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """At most one finding, or the wish to see a later loss."""
        if not (_ratios(recording) > self.ratio).any():
            return
        ratios = _ratios(recording, recording.once(_usual_norm))
        large = np.flatnonzero(ratios > self.ratio).tolist()
        if not large or slope(recording, "grows", DEPTH) is not None:
            return
        found = self._overflow(recording, ratios) or self._growth(recording, ratios)
        if found is None and len(large) >= self.steps:
            found = self._climb(recording, ratios, large)
            if found is None and not recording.complete and self._is_worth_a_look(recording, ratios):
                look = len(self._late(recording)) + 1
                yield Request(f"updates rival the weights: has the loss climbed? Look {look} of {self.looks}")
        if found is not None:
            yield found

    def _overflow(self, recording: Recording, ratios: Floats) -> Finding | None:
        """Updates as large as the weights, right before the first gradient that is not finite."""
        norms = gradient_norms(recording)
        end = first_overflow(recording, norms)
        before = [
            row for row in np.flatnonzero(np.isfinite(norms)).tolist() if recording.observed[row].index < (end or 0)
        ]
        if end is None or not before or not ratios[before[-1]] > self.whole:
            return None
        first = before[-1]
        while first - 1 in before and ratios[first - 1] > self.ratio:
            first -= 1
        return self._found(
            recording,
            first,
            message=f"the updates are as large as the weights, and in step {end} gradients are NaN or Inf",
            evidence=f"{_told(recording, ratios, [first, before[-1]])} (limit {self.whole:.0%})",
        )

    def _growth(self, recording: Recording, ratios: Floats) -> Finding | None:
        """Such updates, while the gradients grow."""
        norms = gradient_norms(recording)
        rows = np.flatnonzero(np.isfinite(norms)).tolist()
        grown = steady_growth(norms[rows], self.growth, self.window, 2, 1.0)
        if grown is None or not (ratios[rows[grown.first : grown.last]] > self.ratio).all():
            return None
        if not (self._is_late(recording) or recording.complete) or not self._are_high(norms, self.held):
            return None
        first, last = rows[grown.first], rows[grown.last]
        return self._found(
            recording,
            first,
            message="the updates rival the weights, and the gradients grow "
            f"{norms[last] / grown.usual:.0e}-fold up to step {recording.observed[last].index}",
            evidence=f"{_told(recording, ratios, [first, rows[grown.last - 1]])} (limit {self.ratio:.0%})",
        )

    def _climb(self, recording: Recording, ratios: Floats, large: list[int]) -> Finding | None:
        """Such updates, and a loss far above the first one."""
        late = self._late(recording)
        if not late or (len(late) < self.looks and not recording.complete):
            return None
        begin, end = min(recording.losses), min(late, key=lambda step: late[step])
        before = [row for row in large if recording.observed[row].index < max(late)]
        first, last = recording.losses[begin], late[end]
        replaced = int(np.sum(ratios[before] > self.whole)) >= self.steps
        limit = 1.0 if replaced else self.climb
        if len(before) < self.steps or not last > limit * first > 0:
            return None
        if not self._is_suspect(recording, ratios[before]):
            return None
        return self._found(
            recording,
            before[0],
            message=f"the updates rival the weights, and the loss has climbed {last / first:.2g}-fold",
            evidence=f"{_told(recording, ratios, [before[0], before[-1]])} (limit {self.ratio:.0%}); "
            f"loss: {first:.3g} in step {begin}, {last:.3g} in step {end} (limit {limit:g}-fold)",
        )

    def _is_worth_a_look(self, recording: Recording, ratios: Floats) -> bool:
        """Whether too few later losses are known, and all of them could have climbed."""
        late = self._late(recording)
        if not recording.losses or len(late) >= self.looks or not self._is_late(recording):
            return False
        first = recording.losses[min(recording.losses)]
        return all(loss > first for loss in late.values()) and self._is_suspect(recording, ratios)

    def _late(self, recording: Recording) -> dict[int, float]:
        """The loss of each step that was traced after the first ones."""
        begin = min(recording.losses, default=0)
        return {step: loss for step, loss in recording.losses.items() if step - begin >= self.patience}

    def _is_suspect(self, recording: Recording, ratios: Floats) -> bool:
        """Whether large updates have replaced the weights several times over, or gradients are larger than at first."""
        way = float(ratios[ratios > self.ratio].sum())
        return way > self.way or self._are_high(gradient_norms(recording), self.climb)

    def _is_late(self, recording: Recording) -> bool:
        """Whether the first steps, from which a run may recover, are over."""
        return recording.steps[-1].index >= self.patience

    def _are_high(self, norms: Floats, factor: float) -> bool:
        """Whether the last gradients are so many times the first one."""
        seen = norms[np.isfinite(norms)]
        return bool(np.median(seen[-self.steps :]) > factor * seen[0])

    def _found(self, recording: Recording, row: int, **fields: object) -> Finding:
        sites = tuple(site.path for site in recording.sites_of(Kind.UPDATE))
        steps = optimizer_steps(recording.observed[row])
        rates = sorted({event.rate for event in steps if event.rate is not None})
        return self.finding(
            step=recording.observed[row].index,
            why="such a step leaves the region for which the gradient was true, and the next one overshoots further",
            fix=f"lower the learning rate{f' ({rates[-1]:.2g})' if rates else ''}, warm it up, "
            "or clip with torch.nn.utils.clip_grad_norm_ before the step",
            sites=sites,
            scope=f"{len(sites)} parameters" if len(sites) > 1 else "",
            location=next((event.location for event in steps), None),
            **fields,
        )


def _ratios(recording: Recording, least: float = 0.0) -> Floats:
    """The norm of all updates / the norm of all weights after them, of each observed step; 0 where nothing moved.

    Weights count with a norm of `least` if theirs is smaller.
    """
    updates, weights = (recording.each(kind, _norm) for kind in (Kind.UPDATE, Kind.PARAMETER))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios: Floats = np.where(np.isfinite(updates), updates / np.maximum(weights, least), np.inf)
    return np.nan_to_num(ratios, nan=0.0, posinf=np.inf)


def _usual_norm(recording: Recording) -> float:
    """The norm of all weights as PyTorch's layers initialise them: uniformly, with a variance of 1 / (3 fan-in)."""
    shapes = (site.shape for site in recording.sites_of(Kind.PARAMETER))
    return float(np.sqrt(sum(shape[0] for shape in shapes if len(shape) > 1) / 3))


def _norm(stored: Floats) -> float:
    return float(np.sqrt(stored[:, 2].sum()))


def _told(recording: Recording, ratios: Floats, rows: list[int]) -> str:
    texts = [f"{ratios[row]:.0%} in step {recording.observed[row].index}" for row in dict.fromkeys(rows)]
    return "norm of the update / norm of the weights: " + ", ".join(texts)
