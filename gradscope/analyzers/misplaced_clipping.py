"""Gradients are clipped before the backward, after the step, before they are unscaled, or not at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.events import Change, Changed, Clipped, EventKind, LoopEvent, Unscaled
from gradscope.findings import Finding, Severity
from gradscope.records import Recording, Step

PAIR = 2


@dataclass(frozen=True)
class MisplacedClipping(Analyzer):
    """Gradients are clipped where it does not help: too early, too late, before they are unscaled, or none at all.

    ## What it means
    Clipping changes `.grad`, so its place is between the backward and the step. Before the backward there are no
    gradients; after the step, they are thrown away. Under a gradient scaler, gradients are tens of thousands of times
    too large until `unscale_` has divided them. And `model.parameters()` can be gone through once only: who passes
    the same iterator to the optimizer and to `clip_grad_norm_` clips nothing.

    ## Why it matters
    Training goes on as if there were no clipping, until a large gradient comes. Clipping scaled gradients is
    worse: after unscaling they are as small as the limit divided by the scale, so nearly nothing is learned.

    ## How it is measured
    In a traced step, by the order in which torch's own functions clip and unscale the same gradients, by whether
    all clipping ran before the first backward, and by whether it was given an iterator that had come to its end.
    After observed steps, by a few gradients that are looked at again when the next backward begins: all were made
    smaller by one factor, or cut at one limit, and then thrown away.

    ## What it is not
    Clipping whose limit was multiplied by the scale (at least `deliberate` of it), gradients zeroed in place,
    a clipping function that is only used to learn the norm, and modules without parameters that a loop over modules
    comes across.

    ## How to fix it
    Put the calls into this order: `backward()`, then `scaler.unscale_(optimizer)` if there is a scaler, then
    `clip_grad_norm_(model.parameters(), limit)`, then `step()`.

    ## Fires on
    >>> from gradscope.records import ParameterInfo
    >>> from gradscope.testing import recording, step_event
    >>> both = ParameterInfo("fc.weight", "fc"), ParameterInfo("fc.bias", "fc")
    >>> clip = Clipped(gradients=("fc.weight", "fc.bias"), limit=1.0)
    >>> unscale = Unscaled(gradients=("fc.weight", "fc.bias"), scale=65536.0)
    >>> made = recording(events={0: [clip, unscale, step_event()]}, parameters=both)
    >>> for found in MisplacedClipping().analyze(made):
    ...     print(found)
    ERROR    misplaced-clipping   since step 0   2 of 2 parameters
             gradients are clipped to 1 while they are still multiplied by the loss scale
             measured: 2 gradients were clipped first and unscaled later, and the scale began at 65536
             why: after unscaling they are no larger than 1.5e-05, so next to nothing is learned
             fix: call scaler.unscale_(optimizer) after the backward and before the clipping

    ## Silent on
    >>> list(MisplacedClipping().analyze(recording(events={0: [unscale, clip, step_event()]})))
    []

    ## Sources
    - PyTorch, "Automatic Mixed Precision examples", working with unscaled gradients,
      https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping
    - pytorch/examples, issue 1196: clipping of scaled gradients in an example, open for years.
    """

    severity: ClassVar[Severity] = Severity.ERROR
    explains: ClassVar[frozenset[str]] = frozenset({"exploding-gradient", "oversized-update", "lost-update"})

    deliberate: float = field(
        default=0.01,
        metadata={"unit": "share of the loss scale", "reason": "usual limits are below 100, and scales begin at 65536"},
    )
    tolerance: float = field(
        default=1e-3, metadata={"unit": "ratio", "reason": "rounding in half precision changes a norm by less"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding of each of the four kinds."""
        judges = (self._scaled, self._early, self._nothing, self._late)
        steps = [step for step in recording.steps if any(isinstance(event, Clipped | Changed) for event in step.events)]
        for judge in judges if steps else ():
            found = next((finding for step in steps for finding in judge(recording, step)), None)
            if found is not None:
                yield found

    def _scaled(self, recording: Recording, step: Step) -> Iterator[Finding]:
        """What was clipped before it was unscaled."""
        for position, clip in enumerate(step.events):
            if not isinstance(clip, Clipped) or clip.limit is None or _is_early(step):
                continue
            before, after = _unscaled(step.events[:position]), _unscaled(step.events[position + 1 :])
            for later in after if not any(_common(event, clip) for event in before) else ():
                both, scale = _common(later, clip), later.scale
                if both and scale is not None and clip.limit < self.deliberate * scale:
                    yield self._found_scaled(recording, step, clip, both, scale)

    def _early(self, recording: Recording, step: Step) -> Iterator[Finding]:
        """What was clipped before there were gradients."""
        clips = [event for event in step.events if isinstance(event, Clipped) and event.gradients]
        if clips and _is_early(step):
            sites = tuple(dict.fromkeys(path for clip in clips for path in clip.gradients))
            yield self.finding(
                step=step.index,
                message="gradients are clipped before the backward that computes them",
                evidence=f"{len(sites)} gradients were None or old when they were clipped; the backward began later",
                why="the step uses the new gradients, which are not clipped at all",
                fix="clip between loss.backward() and optimizer.step()",
                sites=sites,
                scope=f"{len(sites)} of {len(recording.parameters)} parameters",
                location=clips[0].location,
                cause="early",
            )

    def _nothing(self, recording: Recording, step: Step) -> Iterator[Finding]:
        """What was clipped when there was nothing left to clip."""
        clips = [event for event in step.events if isinstance(event, Clipped)]
        if clips and not any(event.gradients for event in clips):
            number = len(recording.parameters)
            yield self.finding(
                step=step.index,
                message="clipping was given an iterator over parameters that had come to its end",
                evidence=f"0 of {number} gradients were clipped: something before, mostly the optimizer, used it up",
                why="gradients are not clipped at all",
                fix="pass model.parameters() anew, or make a list of it first: params = list(model.parameters())",
                sites=tuple(parameter.path for parameter in recording.parameters),
                location=clips[0].location,
                cause="nothing",
            )

    def _late(self, recording: Recording, step: Step) -> Iterator[Finding]:
        """What was clipped after the step."""
        for event in step.events:
            changes = event.changes if isinstance(event, Changed) else ()
            how = self._clipped(changes)
            if how:
                before, after = (sum(size**2 for size in sizes) ** 0.5 for sizes in _norms(changes))
                place = next((e.location for e in _steps_before(recording, step) if e.location is not None), None)
                yield self.finding(
                    step=max(0, step.index - 1),
                    message="gradients are clipped after the step that has used them",
                    evidence=f"{len(changes)} gradients that were looked at had a norm of {before:.2g} in the "
                    f"step; they were then {how}, to a norm of {after:.2g}, and thrown away",
                    why="the step works with gradients of any size, as if they were not clipped",
                    fix="clip between loss.backward() and optimizer.step()",
                    sites=tuple(change.parameter for change in changes),
                    location=place,
                    cause="late",
                )

    def _clipped(self, changed: tuple[Change, ...]) -> str:
        """How gradients were clipped; "" if they were not, or if that is not certain."""
        live = [each for each in changed if each.norm > 0]
        if len(live) < PAIR or not all(each.norm_after > 0 for each in live):
            return ""
        ratios = [each.norm_after / each.norm for each in live]
        if max(ratios) < 1 - self.tolerance and max(ratios) - min(ratios) <= self.tolerance * max(ratios):
            return f"multiplied by {max(ratios):.2g}"
        limit = max(each.peak_after for each in live)
        cut = [each for each in live if each.peak > limit * (1 + self.tolerance)]
        cut_at_it = all(each.peak_after >= limit * (1 - self.tolerance) for each in cut)
        others = all(
            abs(ratio - 1) <= self.tolerance for each, ratio in zip(live, ratios, strict=True) if each not in cut
        )
        return f"cut at {limit:.2g}" if cut and cut_at_it and others else ""

    def _found_scaled(
        self, recording: Recording, step: Step, clip: Clipped, both: tuple[str, ...], scale: float
    ) -> Finding:
        limit = clip.limit or 0.0
        return self.finding(
            step=step.index,
            message=f"gradients are clipped to {limit:g} while they are still multiplied by the loss scale",
            evidence=f"{len(both)} gradients were clipped first and unscaled later, and the scale began at {scale:g}",
            why=f"after unscaling they are no larger than {limit / scale:.1e}, so next to nothing is learned",
            fix="call scaler.unscale_(optimizer) after the backward and before the clipping",
            sites=both,
            scope=f"{len(both)} of {len(recording.parameters)} parameters",
            location=clip.location,
            cause="scaled",
        )


def _is_early(step: Step) -> bool:
    """Whether all clipping of a step came before its first backward; what was clipped after the last step is late."""
    kinds = [event.kind for event in step.events]
    if EventKind.BACKWARD not in kinds or EventKind.CHANGED in kinds:
        return False
    return EventKind.CLIPPED not in kinds[kinds.index(EventKind.BACKWARD) :]


def _unscaled(events: Sequence[LoopEvent]) -> list[Unscaled]:
    return [event for event in events if isinstance(event, Unscaled)]


def _common(event: Unscaled, clip: Clipped) -> tuple[str, ...]:
    """The gradients that were unscaled, of those that were clipped."""
    return tuple(path for path in event.gradients if path in clip.gradients)


def _norms(changed: tuple[Change, ...]) -> tuple[list[float], list[float]]:
    return [each.norm for each in changed], [each.norm_after for each in changed]


def _steps_before(recording: Recording, step: Step) -> Iterator[LoopEvent]:
    """The optimizers' steps of the step before."""
    for each in recording.steps:
        if each.index == step.index - 1:
            yield from (event for event in each.events if event.kind is EventKind.STEP)
