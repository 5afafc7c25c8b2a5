"""Recordings made by hand, for tests of analyzers and reports: no torch, no model.

Magnitudes are root mean squares, one per step, or one number for every step:

>>> from gradscope.records import Kind, Statistic
>>> made = recording(activation_gradient={"fc1": 1e-9, "fc2": [1.0, 2.0]}, steps=2)
>>> made.values(Kind.ACTIVATION_GRADIENT, Statistic.RMS).tolist()
[[1e-09, 1.0], [1e-09, 2.0]]
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from gradscope.events import EventKind, LoopEvent
from gradscope.inventory import Inventory
from gradscope.records import (
    UNMEASURED,
    Call,
    Floats,
    GraphSummary,
    Kind,
    ModuleInfo,
    ParameterInfo,
    Recording,
    Site,
    Step,
    StepEnd,
)
from gradscope.traces import Failure, Operation, Verification

Magnitudes: TypeAlias = Mapping[str, float | Sequence[float | None]]

COUNT = 16


def recording(
    *,
    steps: int = 5,
    activation: Magnitudes | None = None,
    activation_gradient: Magnitudes | None = None,
    parameter: Magnitudes | None = None,
    parameter_gradient: Magnitudes | None = None,
    update: Magnitudes | None = None,
    count: Mapping[str, int] | int = COUNT,
    passes: Mapping[str, Sequence[int]] | None = None,
    events: Mapping[int, Iterable[LoopEvent]] | None = None,
    ends: Mapping[int, StepEnd] | None = None,
    calls: Mapping[str, Call] | None = None,
    parameters: Iterable[ParameterInfo] = (),
    sources: Mapping[str, tuple[str, ...]] | None = None,
    operations: Iterable[Operation] = (),
    stepped: Mapping[int, Iterable[str]] | None = None,
    verifications: Iterable[Verification] = (),
    failure: Failure | None = None,
    inventory: Inventory | None = None,
    complete: bool = False,
) -> Recording:
    """A recording with the given magnitudes.

    Parameter kinds take full names ("fc1.weight"), activation kinds module names. NaN and Inf are what the
    tensor held; None in a sequence means not measured. `count` is the number of elements of each site, `passes` how
    many forwards' gradients arrive at a module in each step.
    """
    given = {
        Kind.ACTIVATION: activation,
        Kind.ACTIVATION_GRADIENT: activation_gradient,
        Kind.PARAMETER: parameter,
        Kind.PARAMETER_GRADIENT: parameter_gradient,
        Kind.UPDATE: update,
    }
    sites = [_site(kind, path, _size(count, path)) for kind, table in given.items() for path in table or {}]
    columns = [
        _column(values, steps, _size(count, path)) for table in given.values() for path, values in (table or {}).items()
    ]
    stored = np.stack(columns, axis=1) if columns else np.empty((steps, 0, 5))
    for column, site in enumerate(sites):
        if site.kind is Kind.ACTIVATION_GRADIENT and site.module in (passes or {}):
            stored[:, column, :3] *= np.array((passes or {})[site.module])[:, None]
    modules = dict.fromkeys([*(site.module for site in sites), *(calls or {})])
    flags = np.array([(calls or {}).get(path, Call.GRAD) for path in modules], np.uint8)
    happened, ended = events or {}, ends or {}
    return Recording(
        sites=tuple(sites),
        steps=tuple(
            Step(i, ended.get(i, StepEnd.OPTIMIZER), tuple(happened.get(i, ())), stored[i], flags) for i in range(steps)
        ),
        modules=tuple(ModuleInfo(path, "Module") for path in modules),
        parameters=tuple(parameters),
        graph=GraphSummary(sources or {}),
        operations=tuple(operations),
        stepped={step: frozenset(paths) for step, paths in (stepped or {}).items()},
        verifications=tuple(verifications),
        failure=failure,
        inventory=inventory or Inventory(),
        complete=complete,
    )


def step_event(*, parameters: int = 2, **fields: object) -> LoopEvent:
    """An optimizer step over so many parameters."""
    return LoopEvent(EventKind.STEP, optimizer="SGD", parameters=parameters, **fields)  # type: ignore[arg-type]


def _size(count: Mapping[str, int] | int, path: str) -> int:
    return count if isinstance(count, int) else count.get(path, COUNT)


def _site(kind: Kind, path: str, size: int) -> Site:
    if kind in (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT):
        return Site(kind, path, "Module", shape=(size,))
    module, _, name = path.rpartition(".")
    return Site(kind, module, "Module", name, shape=(size,))


def _column(values: float | Sequence[float | None], steps: int, size: int) -> Floats:
    each = [values] * steps if isinstance(values, int | float) else list(values)
    return np.stack([_stored(value, size) for value in each])


def _stored(rms: float | None, size: int) -> Floats:
    if rms is None:
        return UNMEASURED
    low = rms if np.isnan(rms) else -rms
    return np.array([size, 0.0 if np.isfinite(rms) else np.nan, rms * rms * size, low, rms], float)
