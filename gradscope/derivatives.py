"""Gradients held against finite differences, input by input.

A gradient is called wrong only if it disagrees at every step size while the differences agree among themselves, so
that kinks, jumps and rounding errors are nobody's fault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.probes import UNDEFINED, Probe, Run, Shifts, rms, undisturbed
from gradscope.traces import Derivative

Numbers: TypeAlias = NDArray[np.float64]

DIRECTIONS = 3
STEPS = {torch.float64: (1e-6, 1e-4, 1e-3, 1e-2, 1e-1), torch.float32: (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}
AGREES = 1e-3
TOLERABLE = 1e-2
CONSISTENT = 0.1

BOUNDS = 2  # a lower and an upper one
HALVINGS = 24
LAST = 4
JUMP, SMALL_JUMP = 1e-3, 1e-5
REACHES = (2.0, 0.3, 20.0)
ROUNDING = frozenset({"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison has shown.

    Attributes:
        derivatives: one for each input of which it can be told.
        unsure: names of the inputs along which the finite differences contradict each other.
        identity: an output is an input, unchanged or clipped.
        rounds: the function rounds, or jumps.
        linear: twice the gradient from above gives twice the gradient; looked at where it matters.
    """

    derivatives: tuple[Derivative, ...]
    unsure: tuple[str, ...] = ()
    identity: bool = False
    rounds: bool = False
    linear: bool = True

    @property
    def wrong(self) -> bool:
        """Whether a gradient disagrees."""
        return any(each.error > TOLERABLE for each in self.derivatives)


def compare(
    run: Run, leaves: Mapping[str, Tensor], *, known: frozenset[str] = frozenset(), seconds: float = float("inf")
) -> Outcome:
    """Hold the gradients of a function against finite differences.

    Args:
        run: computes the outputs from the present values of the leaves.
        leaves: require grad, all float64 or all float32; they are moved, and have their own values again at the end.
        known: names of torch functions that are known to run inside.
        seconds: how long it may take.

    Raises:
        TooSlow: it took longer.
    """
    with undisturbed({leaf.device for leaf in leaves.values()}) as rewind:
        probe = Probe(run, leaves, rewind, perf_counter() + seconds)
        try:
            probe.settle()
            return _outcome(probe, known)
        finally:
            probe.restore()


def _outcome(probe: Probe, known: frozenset[str]) -> Outcome:
    rounding = not ROUNDING.isdisjoint(known | probe.names)
    gradients = probe.gradients()
    judged = {name: _judged(probe, name, gradient, rounding=rounding) for name, gradient in gradients.items()}
    found = tuple(each for each in judged.values() if each is not None)
    unsure = tuple(name for name, each in judged.items() if each is None)
    if unsure and rounding and _jumps(probe, SMALL_JUMP):
        found, unsure = (*found, *(_stepwise(probe, name, gradients[name]) for name in unsure)), ()
    wrong = any(each.error > TOLERABLE for each in found)
    linear = not (probe.single or wrong) or _is_linear(probe, gradients)
    return Outcome(
        derivatives=tuple(_described(each, linear=linear) for each in found),
        unsure=unsure,
        identity=wrong and _is_identity(probe),
        rounds=wrong and (_is_constant(found) or _jumps(probe, SMALL_JUMP if rounding else JUMP)),
        linear=linear,
    )


def _stepwise(probe: Probe, name: str, gradient: Tensor | None) -> Derivative:
    """Along an input whose differences are those of a staircase: the derivative is zero wherever there is one."""
    computed = float(np.linalg.norm(_along(gradient, [probe.direction(probe.base[name])])))
    shape = tuple(probe.base[name].shape)
    return Derivative(name, float(computed > 0), DIRECTIONS, 0.0, computed, missing=gradient is None, expected=shape)


def _judged(probe: Probe, name: str, gradient: Tensor | None, *, rounding: bool) -> Derivative | None:
    """What the differences say about one gradient; None when they contradict each other."""
    value = probe.base[name]
    directions = [probe.direction(value) for _ in range(DIRECTIONS)]
    computed = _along(gradient, directions)
    verdict = _verdict(probe, name, directions, computed, rounding=rounding)
    if verdict is None:
        return None
    error, measured = verdict
    return Derivative(
        name=name,
        error=error,
        directions=DIRECTIONS,
        measured=float(np.linalg.norm(measured)),
        computed=float(np.linalg.norm(computed)),
        factor=_factor(computed, measured) if error > TOLERABLE else None,
        transposed=error > TOLERABLE and gradient is not None and _is_transposed(gradient, directions, measured),
        missing=gradient is None,
        expected=tuple(value.shape),
    )


def _verdict(
    probe: Probe, name: str, directions: Sequence[Tensor], computed: Numbers, *, rounding: bool
) -> tuple[float, Numbers] | None:
    """The relative error and the differences it is against; None when they contradict each other."""
    if not np.isfinite(computed).all():
        return None
    seen: list[Numbers] = []
    quiet = False
    for step in STEPS[probe.dtype]:
        measured = np.array([probe.difference(name, direction, step) for direction in directions])
        if not np.isfinite(measured).all():
            continue
        error = _error(measured, computed)
        if error <= AGREES and not (rounding and _is_flat(seen)):
            return error, measured
        if np.linalg.norm(measured - computed) <= probe.noise(step):
            quiet = True
        else:
            seen.append(measured)
    return _summed_up(seen, computed, quiet=quiet, rounding=rounding)


def _summed_up(
    seen: Sequence[Numbers], computed: Numbers, *, quiet: bool, rounding: bool
) -> tuple[float, Numbers] | None:
    errors = [_error(measured, computed) for measured in seen]
    least = int(np.argmin(errors)) if errors else -1
    flat = _is_flat(seen)
    if errors and errors[least] <= TOLERABLE and not (flat and rounding):
        return errors[least], seen[least]
    if flat:
        return 1.0, np.zeros_like(computed)
    steady = _steady(seen, computed)
    if steady is not None:
        return errors[least], steady
    return (0.0, computed) if quiet else None


def _steady(seen: Sequence[Numbers], computed: Numbers) -> Numbers | None:
    """The middle one of three differences that are closer to each other than any is to the gradient."""
    gap = CONSISTENT * min((float(np.linalg.norm(measured - computed)) for measured in seen), default=0.0)
    for before, middle, after in zip(seen, seen[1:], seen[2:], strict=False):
        if np.linalg.norm(before - middle) <= gap and np.linalg.norm(middle - after) <= gap:
            return middle
    return None


def _is_flat(seen: Sequence[Numbers]) -> bool:
    """Whether nothing at all moves at the finest steps."""
    return len(seen) > 1 and not any(measured.any() for measured in seen[:2])


def _error(measured: Numbers, computed: Numbers) -> float:
    size = max(float(np.linalg.norm(measured)), float(np.linalg.norm(computed)))
    return float(np.linalg.norm(measured - computed)) / size if size else 0.0


def _along(gradient: Tensor | None, directions: Sequence[Tensor]) -> Numbers:
    if gradient is None:
        return np.zeros(len(directions))
    return np.array([float((gradient.double() * direction.double()).sum()) for direction in directions])


def _factor(computed: Numbers, measured: Numbers) -> float | None:
    """The one number that turns the differences into the gradient; None if there is none."""
    if not computed.any() or not measured.any():
        return None
    factor = float(computed @ measured / (measured @ measured))
    return factor if _error(factor * measured, computed) <= AGREES else None


def _is_transposed(gradient: Tensor, directions: Sequence[Tensor], measured: Numbers) -> bool:
    if gradient.dim() < 2 or gradient.shape[-1] != gradient.shape[-2]:  # noqa: PLR2004  a matrix has two dimensions
        return False
    return _error(measured, _along(gradient.transpose(-2, -1), directions)) <= AGREES


def _described(derivative: Derivative, *, linear: bool) -> Derivative:
    """Without a factor that would depend on what arrives from above."""
    return derivative if linear else replace(derivative, factor=None)


def _is_linear(probe: Probe, gradients: Mapping[str, Tensor | None]) -> bool:
    """Whether twice the gradient from above gives twice the gradients."""
    pairs = [(gradients[name], twice) for name, twice in probe.gradients(2.0).items()]
    return all(twice is None or torch.allclose(2 * once, twice) for once, twice in pairs if once is not None)


def _is_identity(probe: Probe) -> bool:
    """Whether an output is an input, unchanged or clipped."""
    return any(_follows(output, value.double()) for output in probe.values for value in probe.base.values())


def _follows(output: Tensor, value: Tensor) -> bool:
    if output.shape != value.shape:
        return False
    same = torch.isclose(output, value, rtol=1e-6, atol=0.0, equal_nan=True)
    bounds = set(output[~same].unique().tolist()) if same.any() else None
    return bounds is not None and len(bounds) <= BOUNDS and bounds != {0.0}  # a ReLU is no clipped input


def _is_constant(found: Sequence[Derivative]) -> bool:
    return all(each.measured == 0 for each in found)


def _jumps(probe: Probe, limit: float) -> bool:
    """Whether the function jumps between here and somewhere near, by this share of how far it goes."""
    for reach in REACHES:
        shifts = {name: reach * _size(value) * probe.normal(value).to(value) for name, value in probe.base.items()}
        try:
            if _jump_along(probe, shifts) > limit:
                return True
        except UNDEFINED:
            continue
    return False


def _jump_along(probe: Probe, shifts: Shifts) -> float:
    """The jump on the way, as a share of it: halve it again and again, towards where the function is least linear.

    A jump stays as high as it is on ever shorter ways; at a kink the height shrinks, at a pole it grows.
    """

    def at(share: float) -> list[Tensor]:
        return probe.moved({name: share * shift for name, shift in shifts.items()})

    low, high, left, middle, right = 0.0, 1.0, at(0.0), at(0.5), at(1.0)
    heights = [_height(left, right)]
    for _ in range(HALVINGS):
        half = (low + high) / 2
        before, after = at((low + half) / 2), at((half + high) / 2)
        if _bend(left, before, middle) >= _bend(middle, after, right):
            high, right, middle = half, middle, before
        else:
            low, left, middle = half, middle, after
        heights.append(_height(left, right))
    stays = max(heights[-LAST:]) <= (1 + CONSISTENT) * min(heights[-LAST:])
    return heights[-1] / heights[0] if stays and heights[0] else 0.0


def _height(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """How far the ends of a way are apart, at most."""
    return max(float((b - a).abs().nan_to_num(0.0).max()) for a, b in zip(left, right, strict=True) if a.numel())


def _bend(left: Sequence[Tensor], middle: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """How far the middle is from where a line would have it, at most."""
    triples = zip(left, middle, right, strict=True)
    return max(float((b - (a + c) / 2).abs().nan_to_num(0.0).max()) for a, b, c in triples if b.numel())


def _size(value: Tensor) -> float:
    return rms(value[value.isfinite()]) or 1.0
