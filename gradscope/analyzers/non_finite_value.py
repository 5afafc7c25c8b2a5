"""The first NaN or Inf, and where it was born."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, ClassVar

import numpy as np

from gradscope.analyzer import Analyzer, Request
from gradscope.births import Birth, advice, birth, candidates, row
from gradscope.dataflow import flow_of, strangers
from gradscope.events import EventKind
from gradscope.findings import Finding, Severity
from gradscope.finiteness import (
    first_bad,
    first_told,
    held_in,
    new_inf,
    passed_over,
    poisoned,
    with_bad_gradient,
)
from gradscope.records import Kind, Recording, Site, Statistic, Step, StepEnd
from gradscope.traces import Operation

WHY = "one such step makes every weight it touches NaN, for good"
STOP = 'watch with on_finding="raise" to stop before the optimizer writes it into the weights'
MOST_ROWS = 6
MOST_NAMED = 3
EDGES = "log(0), sqrt(0), division by 0 or overflow"


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

    In a traced step, as the first one is, the origin is an operation: the first with a result that is not finite
    though its operands were, or the one whose own gradient was finite and whose operand's was not. In another
    step the origin is a module, and of the operations that the trace has seen there, those are named that can
    bear NaN; a single one gives its line. Weights that hold NaN already hide everything else.

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
    >>> made = recording(steps=2, activation=outputs, activation_gradient=back, complete=True)
    >>> for found in NonFiniteValue().analyze(made):
    ...     print(found)
    ERROR    non-finite-value   since step 1   'head'
             NaN is born in the loss
             measured: no output holds NaN, but the gradient that arrives at 'head' (Module) holds NaN
                 last values  min  max
                 head         nan  nan
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

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """At most one finding, and the wish for a trace where that can still tell more."""
        bad, told = first_bad(recording), first_told(recording)
        if told is not None and (bad is None or told.index < recording.observed[bad].index):
            yield self._told(recording, told)
        elif bad is not None:
            yield self._located(recording, bad) or self._by_site(recording, bad)
        else:
            yield from self._loss_alone(recording)
            yield from self._passed_over(recording)
            return
        if not recording.complete and not poisoned(recording):
            yield Request("a value is not finite: which operation makes it so?")

    def _located(self, recording: Recording, bad: int) -> Finding | None:
        """The operation, if this step or a later one with sound weights was traced."""
        flow = flow_of(recording.operations)
        first = recording.observed[bad].index
        for step in sorted({operation.step for operation in recording.operations if operation.step >= first}):
            found = birth(flow, step, with_bad_gradient(recording, step))
            if found is not None and not poisoned(recording, before=step):
                return self._born(found, first)
        return None

    def _passed_over(self, recording: Recording) -> Iterator[Finding]:
        """An output that was NaN, and of which nothing was learnt: perhaps the loop itself has noticed."""
        quiet = passed_over(recording)
        found = None if quiet is None else self._in_forward(recording, quiet)
        if found is not None:
            evidence = f"{found.evidence}; no gradient and no weight holds NaN"
            why = "this time nothing was learnt from it"
            yield replace(found, severity=Severity.NOTE, evidence=evidence, why=why, cause="passed over")

    def _loss_alone(self, recording: Recording) -> Iterator[Finding]:
        """A loss that was NaN in a traced step, although all gradients were finite."""
        flow = flow_of(recording.operations)
        losses = [loss for loss in flow.losses if loss.values and isnan(loss.values.low)]
        skipped = {s.index for s in recording.steps if losses and s.end in (StepEnd.CLEARED, StepEnd.OPEN)}
        for loss in losses:
            if loss.step not in skipped:
                found = birth(flow, loss.step)
                if found is not None:
                    yield self._born(found, loss.step, "; the loss is NaN, though all gradients are finite")
                return

    def _born(self, found: Birth, first: int, also: str = "") -> Finding:
        operation = found.operation
        place, fix = f" in {operation.module!r}" if operation.module else "", advice(operation)
        if found.backward:
            message = f"{found.word} is born in the backward of {operation.name}{place}"
            evidence = f"the gradient that comes to {operation.name} is finite, what it hands on is not"
        else:
            message = f"{found.word} is born in {operation.name}{place}"
            evidence = f"its result is the first to hold {found.word}"
            outside = ", ".join(str(shape) for shape in sorted({shape for shape, _ in strangers(operation)}))
            if outside:
                evidence += f"; its operand {outside} came from outside of the model and was not measured"
                fix = f"check the data with torch.isfinite(x).all(), then: {fix}"
        later = f" (seen in step {operation.step})" if operation.step != first else ""
        return self.finding(
            step=first,
            sites=(operation.module,) if operation.module else (),
            message=message,
            evidence=evidence + later + also,
            why=WHY,
            fix=fix,
            location=operation.location,
            table=found.table,
        )

    def _told(self, recording: Recording, told: Step) -> Finding:
        """A step of which only a few gradients are known."""
        suspects = candidates(recording.operations)
        evidence = "a sampled gradient was not finite in this step, which was not measured layer by layer"
        fix = f"watch with every=1 to see where it is born, or {STOP.removeprefix('watch ')}; look for {EDGES}"
        return self._found(told, None, "a gradient holds NaN or Inf", evidence, fix, suspects=suspects)

    def _by_site(self, recording: Recording, bad: int) -> Finding:
        return self._in_forward(recording, bad) or self._in_backward(recording, bad) or self._in_weights(recording, bad)

    def _in_forward(self, recording: Recording, bad: int) -> Finding | None:
        nan, _ = held_in(recording, bad, Kind.ACTIVATION)
        columns = np.flatnonzero(nan | new_inf(recording, bad)).tolist()
        if not columns:
            return None
        column, site = columns[0], recording.sites_of(Kind.ACTIVATION)[columns[0]]
        word = "NaN" if nan[column] else "Inf"
        others = "the outputs before it do not" if column else "it is the first output of the step"
        first = "" if column else "check the input with torch.isfinite(x).all(), then "
        message = f"{word} is born in the forward of {_name(site)}"
        fix = f"{first}look into {site.path!r} for {EDGES}"
        evidence = f"its output holds {word}, {others}"
        before = recording.sites_of(Kind.ACTIVATION)[column - 1] if column else None
        passed = tuple(_between(recording, before, site))
        suspects = candidates(passed) or candidates(passed, graphless=True)
        table = _table(recording, Kind.ACTIVATION, bad, range(column + 1))
        return self._found(recording.observed[bad], site, message, evidence, fix, suspects=suspects, table=table)

    def _in_backward(self, recording: Recording, bad: int) -> Finding | None:
        sites, step = recording.sites_of(Kind.ACTIVATION_GRADIENT), recording.observed[bad]
        nan, inf = held_in(recording, bad, Kind.ACTIVATION_GRADIENT)
        odd = np.flatnonzero(nan | inf).tolist()
        if not odd:
            return None
        site, word = sites[odd[-1]], "NaN" if nan[odd[-1]] else "Inf"
        measured = recording.at(bad, Kind.ACTIVATION_GRADIENT, Statistic.COUNT) > 0
        later = [column for column in np.flatnonzero(measured).tolist() if column > odd[-1]]
        after = sites[later[0]] if later else None
        options: dict[str, Any] = {
            "suspects": candidates(_between(recording, site, after)),
            "table": _table(recording, Kind.ACTIVATION_GRADIENT, bad, [*reversed(later), odd[-1]]),
        }
        if after is None:
            evidence = f"no output holds NaN, but the gradient that arrives at {_name(site)} holds {word}"
            fix = f"look into the loss for {EDGES}, or use a fused loss"
            line = next((event.location for event in step.events if event.kind is EventKind.BACKWARD), None)
            return self._found(step, site, f"{word} is born in the loss", evidence, fix, location=line, **options)
        message = f"{word} is born in the backward between {_name(after)} and {_name(site)}"
        evidence = f"the gradient at {after.path!r} is finite, at {site.path!r} it holds {word}; no output holds NaN"
        fix = f"look at what {after.path!r} computes from {site.path!r}, for {EDGES}; add a small eps there"
        return self._found(step, site, message, evidence, fix, **options)

    def _in_weights(self, recording: Recording, bad: int) -> Finding:
        kinds = (Kind.PARAMETER_GRADIENT, Kind.UPDATE, Kind.PARAMETER)
        found = {kind: held_in(recording, bad, kind) for kind in kinds}
        kind = next(kind for kind, (nan, inf) in found.items() if (nan | inf).any())
        nan, inf = found[kind]
        column = int((nan | inf).argmax())
        site, word = recording.sites_of(kind)[column], "NaN" if nan[column] else "Inf"
        message = f"the step made {site.path!r} {word}"
        evidence = "no output and no gradient holds NaN or Inf, but the weight does after the step"
        fix = "look at the optimizer: too large a learning rate, eps=0, or a state that was loaded or edited"
        if kind is Kind.PARAMETER_GRADIENT:
            message = f"{word} is born in the gradient of {site.path!r}"
            evidence = "no output and no gradient that arrives at one holds NaN or Inf, but this parameter's does"
            fix = f"look at how {site.path!r} is used, for {EDGES}"
        return self._found(recording.observed[bad], site, message, evidence, fix)

    def _found(
        self,
        step: Step,
        site: Site | None,
        message: str,
        evidence: str,
        fix: str,
        *,
        suspects: tuple[Operation, ...] = (),
        **more: object,
    ) -> Finding:
        if suspects:
            several = len(suspects) > 1
            evidence += f"; {_named(suspects)} all there that can bear it, by the trace of step {suspects[0].step}"
            lines = {each.location and (each.location.file, each.location.line) for each in suspects}
            more |= {"location": suspects[0].location} if len(lines) == 1 else {}
            fix = fix if several else advice(suspects[0])
        sites = (site.path,) if site else ()
        return self.finding(step=step.index, sites=sites, message=message, evidence=evidence, why=WHY, fix=fix, **more)


def _named(suspects: tuple[Operation, ...]) -> str:
    shown = ", ".join(f"{each.name} at {each.location}" for each in suspects[:MOST_NAMED])
    more = f" and {len(suspects) - MOST_NAMED} more" if len(suspects) > MOST_NAMED else ""
    return f"{shown}{more} {'are' if len(suspects) > 1 else 'is'}"


def _between(recording: Recording, first: Site | None, last: Site | None) -> Iterator[Operation]:
    """The traced operations behind those of one module, up to those of another one; None: the beginning, the end."""
    start = max((each.index for each in _within(recording, first)), default=-1) if first else -1
    end = max((each.index for each in _within(recording, last)), default=None) if last else None
    return (each for each in recording.operations if each.index > start and (end is None or each.index <= end))


def _within(recording: Recording, site: Site) -> Iterator[Operation]:
    """The traced operations of a module and of those that it contains; of the root only the latter."""
    below = f"{site.module}." if site.module else ""
    return (each for each in recording.operations if each.module and f"{each.module}.".startswith(below))


def _table(recording: Recording, kind: Kind, bad: int, columns: Iterable[int]) -> tuple[tuple[str, ...], ...]:
    """What the last of these sites held in a step."""
    sites = recording.sites_of(kind)
    low, high = (recording.at(bad, kind, each).tolist() for each in (Statistic.MIN, Statistic.MAX))
    chosen = list(columns)[-MOST_ROWS:]
    return (("last values", "min", "max"), *(row(sites[i].path, low[i], high[i]) for i in chosen))


def _name(site: Site) -> str:
    return f"{site.path!r} ({site.module_type})"
