"""Copies to the host that nobody waits for."""

import torch
from torch import Tensor


def to_host(tensor: Tensor) -> Tensor:
    """A detached copy of a tensor on the host; from CUDA it arrives later, see `arrival`."""
    if tensor._is_zerotensor():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.device.type != "cuda":
        return tensor.detach().to("cpu", copy=True)
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor.detach(), non_blocking=True)


def arrival() -> list[torch.cuda.Event]:
    """Events that say when the copies started so far have arrived; none where copies are immediate."""
    if not torch.cuda.is_initialized():
        return []
    events = []
    for device in range(torch.cuda.device_count()):
        with torch.cuda.device(device):
            event = torch.cuda.Event()
            event.record()
            events.append(event)
    return events
