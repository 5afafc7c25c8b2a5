"""Sigmoid and tanh in their flat parts, where gradients are lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from gradscope.analyzer import Analyzer, Request
from gradscope.dataflow import Flow, flow_of
from gradscope.findings import Finding, Severity
from gradscope.records import Floats, Kind, Recording, Statistic, StepEnd
from gradscope.stalls import Stall, is_saturated, stalls, untraced, wakes_others
from gradscope.traces import Operation

BEND = {"sigmoid": 2.0, "sigmoid_": 2.0, "tanh": 1.0, "tanh_": 1.0}  # the input at which each has left its steep part
OFFSETS = frozenset({"add", "add_", "rsub", "sub", "sub_", "subtract"})


class Squash(NamedTuple):
    """A traced sigmoid or tanh between parameters, and the module whose output it was given."""

    operation: Operation
    source: str


@dataclass(frozen=True)
class SaturatedActivation(Analyzer):
    """The inputs of a sigmoid or tanh are so large that its derivative is zero nearly everywhere.

    ## What it means
    Beyond 5 the derivative of tanh is below 0.0002, that of a sigmoid below 0.007. A layer whose inputs spread over
    hundreds has hardly an element between -5 and 5, so that hardly any gradient comes back through it. Functions with
    hard ends (hardtanh, clamp, relu6) lose it altogether.

    ## Why it matters
    What is before the layer learns from very few elements or not at all, and the layer's output is a pattern of signs
    that small changes cannot improve.

    ## How it is measured
    The trace tells of each sigmoid and tanh that stands between parameters, and of the module that feeds it. If it is a
    module of its own, the mean of its derivative follows from what is recorded of its output: the mean of 1 - y² or of
    y - y². Else the spread of its input stands for it. In each observed step since the first one, `steps` at least, the
    mean derivative must be below `steepness` of the largest possible one, and the input must spread by `spread`, or lie
    on one side of zero as a whole, `far` times as far away as the function bends (at 1 tanh does, at 2 a sigmoid).
    Besides, whatever bounded function lets no gradient through at all since the first step is named.

    ## What it is not
    Outputs of the model, however sure it is (no parameter follows them); gates that are open or closed (their inputs do
    not spread, and are not that far away); gates inside LSTM and GRU; layers that leave their flat parts within the
    first steps; rectifiers (`dead-units`); quantisers; attention that picks one key; soft bins, where a parameter is
    only taken from data, so that no weight has made the spread.

    ## How to fix it
    Normalise the inputs, initialise with `torch.nn.init.xavier_uniform_`, put a LayerNorm or BatchNorm before it, or
    lower the learning rate if it began with a step that was too large.

    ## Fires on
    >>> from gradscope.testing import recording
    >>> from gradscope.traces import Operand, Range
    >>> def named(path):
    ...     return Operand(parameter=path, has_graph=True)
    >>> trace = [
    ...     Operation(0, "linear", "fc", operands=(named("fc.weight"),), has_graph=True),
    ...     Operation(1, "tanh", operands=(Operand(operation=0, has_graph=True),), has_graph=True),
    ...     Operation(2, "linear", "out", operands=(Operand(operation=1, has_graph=True), named("out.weight")),
    ...               has_graph=True, is_loss=True),
    ... ]
    >>> for found in SaturatedActivation().analyze(recording(activation={"fc": 250.0, "out": 1.0}, operations=trace)):
    ...     print(found)
    WARNING  saturated-activation   since step 0   'fc'
             tanh after 'fc' works in its flat parts: its input lies between -250 and 250
             measured: that leaves 0.3% of the largest derivative or less, in all 5 observed steps (limit 8%)
             why: hardly a gradient comes back through it, so what is before it hardly learns
             fix: normalise the input, initialise with xavier_uniform_, or put a normalisation before it

    ## Silent on
    >>> list(SaturatedActivation().analyze(recording(activation={"fc": 2.5, "out": 1.0}, operations=trace)))
    []

    ## Sources
    - Glorot and Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural Networks", AISTATS 2010.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    revocable: ClassVar[bool] = True
    explains: ClassVar[frozenset[str]] = frozenset({"vanishing-gradient"})

    steepness: float = field(
        default=0.08,
        metadata={"unit": "share of the largest derivative", "reason": "hidden layers that learn stay above 0.2"},
    )
    spread: float = field(
        default=10.0, metadata={"unit": "standard deviation", "reason": "closed gates have inputs of one size"}
    )
    far: float = field(
        default=6.0,
        metadata={"unit": "times the bend", "reason": "gates are closed at 2 to 5, and nobody starts one at 12"},
    )
    tails: float = field(
        default=8.0,
        metadata={"unit": "largest / standard deviation", "reason": "beyond it a few outliers make the spread"},
    )
    steps: int = field(
        default=5, metadata={"unit": "observed steps", "reason": "some layers leave their flat parts soon"}
    )

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        """One finding for what lets no gradient through, one for what lets hardly any through."""
        shut = [stall for stall in stalls(recording) if is_saturated(stall) and wakes_others(recording, stall)]
        if shut:
            yield self._shut(recording, shut)
        flat = [
            (squash, left) for squash in _squashes(recording) if (left := self._left(recording, squash)) is not None
        ]
        if flat and not shut:
            yield self._flat(recording, flat)
        if untraced(recording) and not recording.complete:
            yield Request("the gradients of some parameters have become exactly zero: which operation makes them so?")

    def _left(self, recording: Recording, squash: Squash) -> float | None:
        """The most that is left of the largest derivative in any step, if that is little enough."""
        rows = [row for row, step in enumerate(recording.observed) if step.end is not StepEnd.CLEARED]
        columns = {site.path: i for i, site in enumerate(recording.sites_of(Kind.ACTIVATION))}
        column = columns.get(squash.source)
        if column is None or len(rows) < self.steps:
            return None
        own = columns.get(squash.operation.module)
        most = 0.0
        for row in reversed(rows):
            most = max(most, self._share(recording, row, squash.operation.name, column, own))
            if most >= self.steepness:
                return None
        return most

    def _share(self, recording: Recording, row: int, name: str, source: int, own: int | None) -> float:
        """The share of the largest derivative in one step; 1 where the input does not spread."""
        low, high = _range(recording, row, source)
        nearest = max(low, -high) / BEND[name]  # all elements are on one side, and none is nearer to zero
        if nearest > self.far:
            return float(4 * np.exp(-2 * nearest))
        std = recording.at(row, Kind.ACTIVATION, Statistic.STD)[source]
        if not std > self.spread:
            return 1.0
        if own is not None and own != source:
            return _derivative(recording, row, name, own)
        return float(0.8 * BEND[name] / std) if max(-low, high) < self.tails * std else 1.0

    def _flat(self, recording: Recording, flat: Sequence[tuple[Squash, float]]) -> Finding:
        (operation, source), left = flat[0]
        column = [site.path for site in recording.sites_of(Kind.ACTIVATION)].index(source)
        low, high = _range(recording, -1, column)
        more = f"; so do {len(flat) - 1} more" if len(flat) > 1 else ""
        return self.finding(
            step=recording.observed[0].index,
            message=f"{operation.name} after {source!r} works in its flat parts: its input lies between {low:.3g} and "
            f"{high:.3g}{more}",
            evidence=f"that leaves {left:.1%} of the largest derivative or less, in all {len(recording.observed)} "
            f"observed steps (limit {self.steepness:.0%})",
            why="hardly a gradient comes back through it, so what is before it hardly learns",
            fix="normalise the input, initialise with xavier_uniform_, or put a normalisation before it",
            sites=tuple(dict.fromkeys(squash.source for squash, _ in flat)),
            location=operation.location,
            cause="flat",
        )

    def _shut(self, recording: Recording, shut: Sequence[Stall]) -> Finding:
        first, given = shut[0].operation, shut[0].operation.values
        sites = tuple(dict.fromkeys(path for stall in shut for path in stall.paths))
        place = f" in {first.module!r}" if first.module else ""
        held = f"its result is between {given.low:.3g} and {given.high:.3g}, and " if given is not None else ""
        rows = min(stall.rows for stall in shut)
        receive = f"{len(sites)} parameters receive" if len(sites) > 1 else f"{sites[0]!r} receives"
        return self.finding(
            step=min(stall.since for stall in shut),
            message=f"{first.name}{place} lets no gradient through: {receive} only zeros",
            evidence=f"{held}gradients before it were exactly 0 in all {rows} observed steps",
            why="every element is in a flat part, where a small change of the input changes nothing",
            fix="normalise the input, initialise with xavier_uniform_, or widen the bounds",
            sites=sites,
            scope=f"{len(sites)} of {len(recording.parameters)} parameters",
            location=first.location,
            cause="shut",
        )


def _range(recording: Recording, row: int, column: int) -> tuple[float, float]:
    low, high = (recording.at(row, Kind.ACTIVATION, each)[column] for each in (Statistic.MIN, Statistic.MAX))
    return float(low), float(high)


def _derivative(recording: Recording, row: int, name: str, column: int) -> float:
    """The mean derivative of what gave these outputs, as a share of the largest one."""
    mean, rms = (recording.at(row, Kind.ACTIVATION, each)[column] for each in (Statistic.MEAN, Statistic.RMS))
    left: Floats = 1 - rms**2 if name.startswith("tanh") else 4 * (mean - rms**2)
    return float(np.nan_to_num(left, nan=1.0))


def _squashes(recording: Recording) -> tuple[Squash, ...]:
    return flow_of(recording.operations).once(_between_parameters)


def _between_parameters(flow: Flow) -> Iterator[Squash]:
    """Sigmoids and tanhs that stand between parameters, each with the module that feeds it."""
    for operation in flow.operations:
        if operation.name not in BEND or not operation.has_graph or not operation.operands:
            continue
        source = flow.origin(operation.operands[0])
        if source is None or not source.parameters or source.module in ("", operation.module):
            continue
        after = (each for each in flow.downstream([operation]) if each is not operation)
        follows = operation.index in flow.toward_loss and any(each.parameters for each in after)
        if follows and _is_weighed(flow, source):
            yield Squash(operation, source.module)


def _is_weighed(flow: Flow, source: Operation) -> bool:
    """Whether parameters do more to this result than to move it."""
    made = (flow.by_index[index] for index in flow.upstream([source]))
    return any(each.parameters and each.name not in OFFSETS for each in made)
