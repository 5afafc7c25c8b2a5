"""Weights that a traced step multiplies by many times in a row: recurrences, unrolled over time or iterations.

Pure functions of a recording.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradscope.dataflow import Flow, flow_of
from gradscope.records import Floats, Recording
from gradscope.traces import Operation
from gradscope.trends import Limits, rises

LEAST = 3  # operations that are a chain


@dataclass(frozen=True, eq=False)
class Chain:
    """The operations that use one weight on one line, each computed from the one before; in the order they ran.

    `gradient` is the largest element of the gradient of each one's result, of shape (operations,), all above zero.
    """

    operations: tuple[Operation, ...]
    gradient: Floats


def growing(recording: Recording, limits: Limits) -> Chain | None:
    """The first chain along which gradients grow toward the input as `limits` say, operations instead of sites."""
    chains = flow_of(recording.operations).once(_chains)
    return next((chain for chain in chains if rises(-np.log10(chain.gradient), limits)), None)


def _chains(flow: Flow) -> Iterator[Chain]:
    """Those of enough links."""
    lines: dict[object, list[Operation]] = {}
    for each in flow.operations:
        if each.parameters and each.gradient is not None:
            lines.setdefault((each.step, each.module, each.location, each.name, each.parameters), []).append(each)
    for operations in lines.values():
        if len(operations) >= LEAST and {each.index for each in operations} <= flow.upstream(operations[-1:]):
            gradient = np.array([max(abs(bound) for bound in each.gradient or ()) for each in operations])
            if np.isfinite(gradient).all() and (gradient > 0).all():
                yield Chain(tuple(operations), gradient)
