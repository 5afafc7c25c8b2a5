"""The autograd graph grows with every step."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gradscope.analyzer import Analyzer
from gradscope.events import EventKind
from gradscope.findings import Finding, Severity
from gradscope.records import Columns, Floats, Kind, Recording, Statistic
from gradscope.traces import Failure, Location

FREED = "backward through the graph a second time"


@dataclass(frozen=True)
class GrowingGraph(Analyzer):
    """Each backward goes through the graphs of all steps before it, because something carries them along.

    ## What it means
    A tensor that is kept from step to step (a hidden state, a running average, a sum of losses) still belongs to
    the graph of the step that made it. What is computed from it adds to that graph, and so it grows for ever.

    ## Why it matters
    Each step is slower and takes more memory than the one before it, until memory is full. The gradients are
    sums over all steps, most of them with respect to weights that there are no more.

    ## How it is measured
    In each of the last `steps` observed steps: of how many forwards have gradients arrived at a module, for each
    forward that ran in the step? The number grows by the same amount in each step, and is above 1. Where the
    run ends because a backward meets a graph that was freed, in another step than the first, that is told, too.

    ## What it is not
    Longer sequences (then there are more forwards, too), truncated backpropagation with `detach()`, several losses
    on one graph (the number stays), accumulation, outputs that are kept for a table and never backpropagated.

    ## How to fix it
    Call `.detach()` on what is carried from step to step (for an LSTM on both states), and take `.item()` of a
    loss that is summed for a report.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> cell = {"activation": {"cell": 1.0}, "activation_gradient": {"cell": 0.1}, "steps": 8}
    >>> grown = recording(**cell, passes={"cell": [1, 2, 3, 4, 5, 6, 7, 8]})
    >>> for found in GrowingGraph().analyze(grown):
    ...     print(found)
    WARNING  growing-graph   since step 1   'cell'
             the graph grows in every step: the backward of step 7 went through 8 forwards of 'cell'
             measured: gradients of 3, 4, 5, 6, 7, 8 forwards in the last 6 steps, for each forward that ran in them
             why: each step is slower and takes more memory than the one before, and repeats old gradients
             fix: detach what is carried from step to step, such as a hidden state; sum up losses by .item()

    ## Silent on
    >>> list(GrowingGraph().analyze(recording(**cell, passes={"cell": [2] * 8})))
    []

    ## Sources
    - PyTorch, "Frequently Asked Questions", my model reports "cuda runtime error(2): out of memory",
      https://docs.pytorch.org/docs/stable/notes/faq.html
    - Williams and Peng, "An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
      Trajectories", 1990: truncated backpropagation through time.
    """

    severity: ClassVar[Severity] = Severity.WARNING

    steps: int = field(
        default=6,
        metadata={"unit": "observed steps", "reason": "windows that slide over a few steps are full before"},
    )

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding: growth, or the end that it has come to."""
        failure = recording.failure
        if failure is not None and failure.step > 0 and FREED in failure.message:
            yield self._ended(failure)
            return
        passes = self._passes(recording)
        if passes is None:
            return
        grows = _growing(passes)
        if len(grows):
            yield self._found(recording, grows, passes[:, grows[0]])

    def _passes(self, recording: Recording) -> Floats | None:
        """Gradients per forward, of shape (last steps, sites).

        None where these steps do not follow each other, or one received as many as the other.
        """
        last = recording.observed[-self.steps :]
        if len(last) < self.steps or last[-1].index - last[0].index != self.steps - 1:
            return None
        came = _counts(recording, Kind.ACTIVATION_GRADIENT, self.steps)
        if (came == came[0]).all():
            return None
        ran = _counts(recording, Kind.ACTIVATION, self.steps)
        columns = {site.path: column for column, site in enumerate(recording.sites_of(Kind.ACTIVATION))}
        constant = (ran == ran[-1]).all(axis=0) & (ran[-1] > 0)
        passes = np.zeros(came.shape)
        for column, site in enumerate(recording.sites_of(Kind.ACTIVATION_GRADIENT)):
            own = columns.get(site.path)
            if own is not None and constant[own]:
                passes[:, column] = came[:, column] / ran[:, own]
        return passes

    def _found(self, recording: Recording, columns: Columns, passes: Floats) -> Finding:
        sites = tuple(recording.sites_of(Kind.ACTIVATION_GRADIENT)[column].path for column in columns.tolist())
        last, by = recording.observed[-1].index, float(passes[1] - passes[0])
        numbers = ", ".join(f"{number:g}" for number in passes.tolist())
        return self.finding(
            step=max(1, last - round((float(passes[-1]) - 1) / by) + 1),
            message=f"the graph grows in every step: the backward of step {last} went through {passes[-1]:g} forwards "
            f"of {sites[0]!r}",
            evidence=f"gradients of {numbers} forwards in the last {self.steps} steps, for each forward that ran in "
            "them",
            why="each step is slower and takes more memory than the one before, and repeats old gradients",
            fix="detach what is carried from step to step, such as a hidden state; sum up losses by .item()",
            sites=sites,
            location=_backward(recording),
        )

    def _ended(self, failure: Failure) -> Finding:
        return self.finding(
            severity=Severity.ERROR,
            step=failure.step,
            message="the backward went into the graph of an earlier step, which was freed",
            evidence=f"the backward of step {failure.step} failed: trying to go through the graph a second time",
            why="something that was made in an earlier step is used again, and still belongs to that step's graph",
            fix="detach what is carried from step to step (state.detach()), or compute it anew in each step",
            sites=(failure.module,) if failure.module else (),
            location=failure.location,
            cause="freed",
        )


def _counts(recording: Recording, kind: Kind, steps: int) -> Floats:
    """How many elements were measured in each of the last observed steps, of shape (steps, sites)."""
    return np.stack([recording.at(row, kind, Statistic.COUNT) for row in range(-steps, 0)])


def _growing(passes: Floats) -> Columns:
    """The sites at which it grows by the same amount from step to step."""
    growth = np.diff(passes, axis=0)
    steady = np.isclose(growth, growth[0], rtol=0, atol=1e-9).all(axis=0)
    return np.flatnonzero(steady & (growth[0] > 1e-9) & (passes[-1] > 1))  # noqa: PLR2004  more than rounding


def _backward(recording: Recording) -> Location | None:
    """The line of the last backward."""
    events = (event for step in reversed(recording.steps) for event in step.events)
    return next((event.location for event in events if event.kind is EventKind.BACKWARD), None)
