"""The first NaN or Inf, and where it was born."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.records import STORED, EventKind, Kind, Recording, Site, Statistic, Step, StepEnd

EDGES = "log(0), sqrt(0), division by 0 or overflow"
SUM = STORED.index(Statistic.SUM)

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class NonFiniteValue(Analyzer):
    """The first NaN or Inf of the run, at its origin: a forward, the loss, a backward or an update.

    ## What it means
    A logarithm or a root met zero, something was divided by zero, or a number grew beyond what its type holds.

    ## Why it matters
    NaN spreads through all that is computed from it; one step makes every weight it touches NaN, for good.

    ## How it is measured
    The first step counts that holds NaN in an output, or NaN or Inf in a gradient that was used, an update or
    a parameter. The origin is looked for in the order of computation: outputs, gradients from the last output
    back, gradients of parameters, updates. Between observed steps a few small gradients are checked.

    ## What it is not
    Gradients of a step that a gradient scaler skipped; masked logits, which hold -Inf on purpose (Inf alone
    in an output is never judged). If another output held new Inf before the first NaN, that is the origin.

    ## How to fix it
    Use the fused losses (`cross_entropy`, `binary_cross_entropy_with_logits`), and a small eps inside of roots,
    logarithms and denominators. `torch.where` is no guard: in the backward the branch that is not taken
    multiplies 0 by Inf, so make its input safe first.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> nan = float("nan")
    >>> outputs, back = {"fc": 1.0, "head": 1.0}, {"fc": [0.1, nan], "head": [0.1, nan]}
    >>> for found in NonFiniteValue().analyze(recording(steps=2, activation=outputs, activation_gradient=back)):
    ...     print(found)
    ERROR    non-finite-value   since step 1   'head'
             NaN is born in the loss
             measured: no output holds NaN, but the gradient that arrives at 'head' (Module) holds NaN
             why: one such step makes every weight it touches NaN, for good
             fix: look into the loss for log(0), sqrt(0), division by 0 or overflow, or use a fused loss

    ## Silent on
    >>> outputs = {"fc": 1.0, "mask": float("-inf"), "head": 1.0}
    >>> list(NonFiniteValue().analyze(recording(steps=2, activation=outputs)))
    []

    ## Sources
    - PyTorch, "Numerical accuracy", https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
    - Micikevicius et al., "Mixed Precision Training", ICLR 2018 (loss scaling and skipped steps).
    - PyTorch issue 68425, "torch.where produces nan in backward pass".
    """

    severity: ClassVar[Severity] = Severity.ERROR
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT, Kind.PARAMETER_GRADIENT})
    every_step: ClassVar[bool] = True

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding."""
        row, told = _first_bad(recording), _first_told(recording)
        if told is not None and (row is None or told.index < recording.observed[row].index):
            evidence = "a sampled gradient was not finite in this step, which was not measured layer by layer"
            fix = f"watch with every=1 to see where it is born; look for {EDGES}"
            yield self._found(told, None, "a gradient holds NaN or Inf", evidence, fix)
        elif row is not None:
            born = self._in_forward(recording, row) or self._in_backward(recording, row)
            yield born or self._in_weights(recording, row)

    def _in_forward(self, recording: Recording, row: int) -> Finding | None:
        nan, _ = _held(recording, Kind.ACTIVATION)
        columns = np.flatnonzero(nan[row] | _new_inf(recording, row)).tolist()
        if not columns:
            return None
        column, site = columns[0], recording.sites_of(Kind.ACTIVATION)[columns[0]]
        word = "NaN" if nan[row, column] else "Inf"
        others = "the outputs before it do not" if column else "it is the first output of the step"
        first = "" if column else "check the input with torch.isfinite(x).all(), then "
        message = f"{word} is born in the forward of {_name(site)}"
        fix = f"{first}look into {site.path!r} for {EDGES}"
        return self._found(recording.observed[row], site, message, f"its output holds {word}, {others}", fix)

    def _in_backward(self, recording: Recording, row: int) -> Finding | None:
        sites, step = recording.sites_of(Kind.ACTIVATION_GRADIENT), recording.observed[row]
        nan, inf = _held(recording, Kind.ACTIVATION_GRADIENT)
        odd = np.flatnonzero(nan[row] | inf[row]).tolist()
        if not odd:
            return None
        site, word = sites[odd[-1]], "NaN" if nan[row, odd[-1]] else "Inf"
        measured = recording.values(Kind.ACTIVATION_GRADIENT, Statistic.COUNT)[row] > 0
        later = [column for column in np.flatnonzero(measured).tolist() if column > odd[-1]]
        if not later:
            evidence = f"no output holds NaN, but the gradient that arrives at {_name(site)} holds {word}"
            fix = f"look into the loss for {EDGES}, or use a fused loss"
            line = next((event.location for event in step.events if event.kind is EventKind.BACKWARD), None)
            return self._found(step, site, f"{word} is born in the loss", evidence, fix, location=line)
        after = sites[later[0]]
        message = f"{word} is born in the backward between {_name(after)} and {_name(site)}"
        evidence = f"the gradient at {after.path!r} is finite, at {site.path!r} it holds {word}; no output holds NaN"
        fix = f"look at what {after.path!r} computes from {site.path!r}, for {EDGES}; add a small eps there"
        return self._found(step, site, message, evidence, fix)

    def _in_weights(self, recording: Recording, row: int) -> Finding:
        kinds = (Kind.PARAMETER_GRADIENT, Kind.UPDATE, Kind.PARAMETER)
        kind = next(kind for kind in kinds if _any(recording, kind)[row])
        nan, inf = (table[row] for table in _held(recording, kind))
        column = int((nan | inf).argmax())
        site, word = recording.sites_of(kind)[column], "NaN" if nan[column] else "Inf"
        message = f"the step made {site.path!r} {word}"
        evidence = "no output and no gradient holds NaN or Inf, but the weight does after the step"
        fix = "look at the optimizer: too large a learning rate, eps=0, or a state that was loaded or edited"
        if kind is Kind.PARAMETER_GRADIENT:
            message = f"{word} is born in the gradient of {site.path!r}"
            evidence = "no output and no gradient that arrives at one holds NaN or Inf, but this parameter's does"
            fix = f"look at how {site.path!r} is used, for {EDGES}"
        return self._found(recording.observed[row], site, message, evidence, fix)

    def _found(self, step: Step, site: Site | None, message: str, evidence: str, fix: str, **more: object) -> Finding:
        why = "one such step makes every weight it touches NaN, for good"
        sites = (site.path,) if site else ()
        return self.finding(step=step.index, sites=sites, message=message, evidence=evidence, why=why, fix=fix, **more)


def _first_bad(recording: Recording) -> int | None:
    """The first observed row that holds what no step may hold."""
    if all(np.isfinite(step.stored[:, SUM].sum()) for step in recording.observed if step.stored is not None):
        return None
    nan, _ = _held(recording, Kind.ACTIVATION)
    weights = _any(recording, Kind.UPDATE) | _any(recording, Kind.PARAMETER)
    gradients = _any(recording, Kind.ACTIVATION_GRADIENT) | _any(recording, Kind.PARAMETER_GRADIENT)
    bad = np.flatnonzero(nan.any(axis=1) | weights | (gradients & ~_skipped(recording, gradients)))
    return int(bad[0]) if len(bad) else None


def _skipped(recording: Recording, overflow: Flags) -> Flags:
    """The rows whose gradients no step used, of shape (observed steps,)."""
    cleared, opened = (
        np.array([step.end is end for step in recording.observed], bool) for end in (StepEnd.CLEARED, StepEnd.OPEN)
    )
    # A fused optimizer runs when a scaler skips a step, and moves nothing. fmax passes over what was not measured.
    still = np.fmax.reduce(recording.values(Kind.UPDATE, Statistic.ABS_MAX), axis=1, initial=np.nan) == 0
    # Where a scaler has skipped a step before, one that is still open may be skipped as well.
    return np.asarray(cleared | still | (opened & bool((overflow & (cleared | still)).any())))


def _first_told(recording: Recording) -> Step | None:
    """The first step that was not observed and whose sampled gradients held NaN or Inf when they were used."""
    told = [step for step in recording.steps if step.stored is None and any(event.non_finite for event in step.events)]
    if not told:
        return None
    finite = (recording.values(Kind.PARAMETER, Statistic.COUNT) > 0).any(axis=1) & ~_any(recording, Kind.PARAMETER)
    # Weights do not come back from NaN: what was finite later was not touched by it.
    sound = max((recording.observed[row].index for row in np.flatnonzero(finite).tolist()), default=-1)
    return next((step for step in told if step.index > sound), None)


def _held(recording: Recording, kind: Kind) -> tuple[Flags, Flags]:
    """Where a kind holds NaN and where it holds Inf, each of shape (observed steps, sites)."""
    return recording.values(kind, Statistic.NAN) == 1, recording.values(kind, Statistic.INF) == 1


def _any(recording: Recording, kind: Kind) -> Flags:
    nan, inf = _held(recording, kind)
    return np.asarray((nan | inf).any(axis=1))


def _new_inf(recording: Recording, row: int) -> Flags:
    """Outputs that hold Inf for the first time; where there is no earlier step, -Inf may be a mask and is left out."""
    inf = _held(recording, Kind.ACTIVATION)[1]
    above = recording.values(Kind.ACTIVATION, Statistic.MAX)[row] == np.inf
    return np.asarray(inf[row] & ~inf[:row].any(axis=0) & (above | (row > 0)))


def _name(site: Site) -> str:
    return f"{site.path!r} ({site.module_type})"
