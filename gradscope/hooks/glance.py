"""A glance at a few small gradients: what is told at once where they are on the host, and nowhere else."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks.meters import host

Flags: TypeAlias = NDArray[np.bool_]

SMALLEST, LARGEST = 3, 4


def zero(tensors: list[Tensor]) -> Flags | None:
    """Which plain CPU tensors hold nothing but zeros; None when one of them is anything else."""
    if not host.AVAILABLE:
        return None
    meter = host.HostMeter()
    _, others = meter.rows.measure_all(tensors)
    rows = meter.send().read()
    return None if others else np.asarray((rows[:, SMALLEST] == 0) & (rows[:, LARGEST] == 0))
