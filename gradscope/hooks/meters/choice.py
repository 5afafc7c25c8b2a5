"""Which meter measures a tensor: the fastest that knows its device, or the one that knows every device."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradscope.hooks.meters.eager import EagerMeter
from gradscope.hooks.meters.host import HostMeter
from gradscope.hooks.meters.meter import Meter

if TYPE_CHECKING:
    from gradscope.hooks.meters.fused import FusedMeter


def best(flat: Tensor, meters: Iterable[Meter]) -> Meter:
    """A meter for a flat tensor, among those at hand or a new one."""
    cells = torch.float64 if flat.dtype is torch.float64 else torch.float32
    for meter in meters:
        if isinstance(meter, HostMeter):
            fits = flat.device.type == "cpu"
        elif isinstance(meter, EagerMeter):
            fits = (meter.device, meter.dtype) == (flat.device, cells)
        else:
            fits = getattr(meter, "device", None) == flat.device
        if fits:
            return meter
    return _fused(flat.device) or EagerMeter(flat.device, cells)


def _fused(device: torch.device) -> "FusedMeter | None":
    """The meter of a CUDA device; None where there is no Triton, or where it does not know the device."""
    if device.type != "cuda":
        return None
    try:
        from gradscope.hooks.meters import fused  # noqa: PLC0415  importing Triton takes a while
    except ImportError:
        return None
    return fused.FusedMeter(device) if fused.available(device) else None
