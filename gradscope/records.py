"""What was measured in a run: sites, steps, modules, parameters. Frozen data, no torch.

Five numbers are stored per site and step (`STORED`). They merge by addition, min and max, so calls,
micro-batches and windows merge exactly; every other statistic is derived from them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from functools import cached_property
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import NotRecorded
from gradscope.events import LoopEvent
from gradscope.inventory import Inventory
from gradscope.traces import Failure, Operation, Verification

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = NDArray[np.intp]
Answer = TypeVar("Answer")
Measure: TypeAlias = Callable[[Floats], float]


class Kind(StrEnum):
    """What is measured at a site."""

    ACTIVATION = "activation"
    ACTIVATION_GRADIENT = "activation_gradient"
    PARAMETER = "parameter"
    PARAMETER_GRADIENT = "parameter_gradient"
    UPDATE = "update"


class Statistic(StrEnum):
    """One number measured at a site in one step. `nan` and `inf` are 1 where the tensor held such a value."""

    COUNT = "count"
    SUM = "sum"
    SQUARES = "squares"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    STD = "std"
    RMS = "rms"
    NORM = "norm"
    ABS_MAX = "abs_max"
    NAN = "nan"
    INF = "inf"


STORED = (Statistic.COUNT, Statistic.SUM, Statistic.SQUARES, Statistic.MIN, Statistic.MAX)
ROOT = "(root)"
UNMEASURED = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
NOTHING = np.empty((0, len(STORED)))


def merge(left: Floats, right: Floats) -> Floats:
    """Merge stored statistics of shape (..., 5); `UNMEASURED` is the neutral element."""
    return np.concatenate(
        [
            left[..., :3] + right[..., :3],
            np.minimum(left[..., 3:4], right[..., 3:4]),
            np.maximum(left[..., 4:5], right[..., 4:5]),
        ],
        axis=-1,
    )


_FORMULAS: Mapping[Statistic, Callable[[Floats, Floats, Floats, Floats, Floats], Floats]] = {
    Statistic.SUM: lambda _count, total, _squares, _low, _high: total,
    Statistic.SQUARES: lambda _count, _total, squares, _low, _high: squares,
    Statistic.MIN: lambda _count, _total, _squares, low, _high: low,
    Statistic.MAX: lambda _count, _total, _squares, _low, high: high,
    Statistic.MEAN: lambda count, total, _squares, _low, _high: total / count,
    Statistic.STD: lambda count, total, squares, _low, _high: np.sqrt(
        np.maximum(squares / count - (total / count) ** 2, 0.0)
    ),
    Statistic.RMS: lambda count, _total, squares, _low, _high: np.sqrt(squares / count),
    Statistic.NORM: lambda _count, _total, squares, _low, _high: np.sqrt(squares),
    Statistic.ABS_MAX: lambda _count, _total, _squares, low, high: np.maximum(np.abs(low), np.abs(high)),
    Statistic.NAN: lambda _count, _total, _squares, low, _high: np.isnan(low).astype(float),
    Statistic.INF: lambda _count, _total, _squares, low, high: (np.isinf(low) | np.isinf(high)).astype(float),
}


def derive(stored: Floats, statistic: Statistic) -> Floats:
    """One statistic of shape (...) from stored ones of shape (..., 5); NaN where nothing was measured."""
    count: Floats = stored[..., 0]
    if statistic is Statistic.COUNT:
        return count
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        values = _FORMULAS[statistic](count, stored[..., 1], stored[..., 2], stored[..., 3], stored[..., 4])
        return np.where(count > 0, values, np.nan)


def _finite(stored: Floats) -> bool:
    """Whether no measured site held NaN or Inf. Both stay in a sum, so finite sums settle it."""
    if np.isfinite(stored[:, 1]).all():
        return True
    low, high = stored[:, 3], stored[:, 4]
    return bool(np.all((np.isfinite(low) & np.isfinite(high)) | (stored[:, 0] == 0)))


def _part(stored: Floats | None, columns: Columns) -> Floats:
    """The rows of some sites, in ascending order; those that were not known then are unmeasured."""
    rows = NOTHING if stored is None else stored
    if not len(columns) or columns[-1] < len(rows):
        return rows[columns]
    known = columns[: columns.searchsorted(len(rows))]
    return np.concatenate([rows[known], np.tile(UNMEASURED, (len(columns) - len(known), 1))])


@dataclass(frozen=True, slots=True)
class Site:
    """One place that is measured.

    `name` tells the outputs of a module apart ("" for its only one) or names the parameter in its module.
    `aliases` are the other full names of a parameter that several modules share.
    """

    kind: Kind
    module: str
    module_type: str
    name: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The full name: "encoder.0.weight" for a parameter, "encoder.0" for an output."""
        return f"{self.module}.{self.name}" if self.module and self.name else self.module or self.name or ROOT


ByKind: TypeAlias = Mapping[Kind, tuple[Columns, tuple[Site, ...]]]


class Call(IntFlag):
    """How a module ran in a step; the flags of several calls add up."""

    NONE = 0
    GRAD = 1
    NO_GRAD = 2
    OUTPUT_REQUIRES_GRAD = 4


class StepEnd(StrEnum):
    """What ended a step: an optimizer, a manual update, gradients cleared without either, or nothing yet."""

    OPTIMIZER = "optimizer"
    MANUAL = "manual"
    CLEARED = "cleared"
    OPEN = "open"


@dataclass(frozen=True, eq=False)
class Step:
    """One step. `stored` has shape (sites known then, 5), `calls` (modules known then,); None: not observed."""

    index: int
    end: StepEnd = StepEnd.OPTIMIZER
    events: tuple[LoopEvent, ...] = ()
    stored: Floats | None = None
    calls: NDArray[np.uint8] | None = None

    @cached_property
    def finite(self) -> bool:
        """Whether neither NaN nor Inf was measured in it."""
        return self.stored is None or _finite(self.stored)

    @cached_property
    def notable(self) -> bool:
        """Whether it holds what exact analyzers look for: a wrongly used gradient, NaN or Inf."""
        return not self.finite or any(event.misused or event.non_finite for event in self.events)

    @cached_property
    def numbers(self) -> dict[tuple[Kind, Measure], tuple[Columns, float]]:
        """What `Recording.each` has made of it, and of which sites."""
        return {}


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """How the modules hang together in the autograd graph of one step.

    `sources[m]` are the modules whose outputs module `m`'s output was computed from, as autograd saw it.
    """

    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """A module of the watched model, known under its path."""

    path: str
    type: str


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """A parameter and what has become of it so far.

    `optimizer_steps` counts the steps of optimizers that own it, `contributions` the backward passes that
    gave it a gradient. `aliases` are its other full names.
    """

    path: str
    module: str
    trainable: bool = True
    optimizer_steps: int = 0
    contributions: int = 0
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recording:
    """Everything measured in a run, of which the last steps are kept.

    Sites and modules are in forward order (the order of first execution). `operations` are those of the last
    trace, `stepped` the parameters that optimizers updated in each of its steps, and `losses` the loss of each step
    that was traced (the sum, if there were several). `complete` says that the run
    is over; `lost` names what could not be measured and why.
    """

    sites: tuple[Site, ...] = ()
    steps: tuple[Step, ...] = ()
    modules: tuple[ModuleInfo, ...] = ()
    parameters: tuple[ParameterInfo, ...] = ()
    graph: GraphSummary = field(default_factory=GraphSummary)
    operations: tuple[Operation, ...] = ()
    stepped: Mapping[int, frozenset[str]] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)
    verifications: tuple[Verification, ...] = ()
    failure: Failure | None = None
    lost: tuple[str, ...] = ()
    inventory: Inventory = field(default_factory=Inventory)
    complete: bool = False

    @cached_property
    def observed(self) -> tuple[Step, ...]:
        """The steps in which statistics were taken."""
        return tuple(step for step in self.steps if step.stored is not None)

    @cached_property
    def notable(self) -> tuple[Step, ...]:
        """The steps that exact analyzers look at."""
        return tuple(step for step in self.steps if step.notable)

    @cached_property
    def stored(self) -> Floats:
        """Stored statistics of shape (observed steps, sites, 5)."""
        return self._table(np.arange(len(self.sites)))

    @cached_property
    def calls(self) -> NDArray[np.uint8]:
        """`Call` flags of shape (observed steps, modules)."""
        table = np.zeros((len(self.observed), len(self.modules)), np.uint8)
        for row, step in zip(table, self.observed, strict=True):
            if step.calls is not None:
                row[: len(step.calls)] = step.calls
        return table

    @cached_property
    def _columns(self) -> ByKind:
        return _columns_of(self.sites)

    @cached_property
    def _answers(self) -> dict[object, object]:
        return {}

    @cached_property
    def _tables(self) -> dict[Kind, Floats]:
        return {}

    def _table(self, columns: Columns) -> Floats:
        rows = [_part(step.stored, columns) for step in self.observed]
        return np.concatenate(rows or [NOTHING]).reshape(len(rows), len(columns), len(STORED))

    def sites_of(self, kind: Kind) -> tuple[Site, ...]:
        """The sites of one kind, in forward order: the columns of `values`."""
        return self._columns[kind][1]

    def once(self, question: Callable[["Recording"], Answer]) -> Answer:
        """The answer to a question about this recording, however often it is asked."""
        if question not in self._answers:
            self._answers[question] = question(self)
        return cast(Answer, self._answers[question])

    def values(self, kind: Kind, statistic: Statistic, only: Sequence[int] | None = None) -> Floats:
        """One statistic of shape (observed steps, sites of that kind); NaN where it was not measured.

        With `only`, of these sites, in ascending order, at their price.
        """
        if only is not None:
            return derive(self._table(self._columns[kind][0][list(only)]), statistic)
        if kind not in self._tables:
            self._tables[kind] = self._table(self._columns[kind][0])
        return derive(self._tables[kind], statistic)

    def at(self, row: int, kind: Kind, statistic: Statistic) -> Floats:
        """A row of `values`, at the price of one step."""
        return derive(_part(self.observed[row].stored, self._columns[kind][0]), statistic)

    def each(self, kind: Kind, measure: Measure) -> Floats:
        """One number for each observed step: what `measure` makes of the stored statistics of one kind (sites, 5).

        A step remembers it, because successive recordings of a run share their steps.
        """
        columns, _ = self._columns[kind]
        return np.array([_number(step, kind, columns, measure) for step in self.observed], float)

    def row(self, step: int, kind: Kind) -> int | None:
        """The row of a step among the observed ones.

        -1 is the last one in which something of this kind was measured; None if there is none.

        Raises:
            NotRecorded: the step was not observed, or is not kept any more.
        """
        if step == -1:
            measured = self.values(kind, Statistic.COUNT).any(axis=1)
            return max(np.flatnonzero(measured).tolist(), default=None)
        steps = [each.index for each in self.observed]
        if step in steps:
            return steps.index(step)
        kept = (
            f"kept are {len(steps)} observed steps from {steps[0]} to {steps[-1]}" if steps else "no step was observed"
        )
        raise NotRecorded(f"step {step} was not observed or is not kept any more: {kept}; step=-1 takes the last one")


def _number(step: Step, kind: Kind, columns: Columns, measure: Measure) -> float:
    known = step.numbers.get((kind, measure))
    if known is None or known[0] is not columns:
        known = step.numbers[kind, measure] = columns, measure(_part(step.stored, columns))
    return known[1]


def _columns_of(sites: tuple[Site, ...]) -> ByKind:
    """The sites of each kind and their columns. The last answer is kept: a run's recordings have the same sites."""
    global _last  # noqa: PLW0603  as said
    known = _last
    if known[0] != sites:
        found: dict[Kind, list[int]] = {kind: [] for kind in Kind}
        for column, site in enumerate(sites):
            found[site.kind].append(column)
        by_kind = {kind: (np.array(at, np.intp), tuple(sites[column] for column in at)) for kind, at in found.items()}
        known = sites, by_kind
    _last = sites, known[1]  # the next of this run has the very same ones, and is compared at once
    return known[1]


_last: tuple[tuple[Site, ...] | None, ByKind] = (None, {})
