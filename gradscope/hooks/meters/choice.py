"""Which meter measures a tensor: the fastest that knows its device, or the one that knows every device."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gradscope.hooks.meters.eager import EagerMeter
from gradscope.hooks.meters.host import HostMeter
from gradscope.hooks.meters.meter import Meter

WIDE = (torch.float64, torch.complex128)


def best(flat: Tensor, meters: Iterable[Meter]) -> Meter:
    """A meter for a flat tensor, among those at hand or a new one."""
    cells = torch.float64 if flat.dtype in WIDE else torch.float32
    for meter in meters:
        if isinstance(meter, HostMeter) and flat.device.type == "cpu":
            return meter
        if isinstance(meter, EagerMeter) and (meter.device, meter.dtype) == (flat.device, cells):
            return meter
    return EagerMeter(flat.device, cells)
