"""What a loss scaler tells of a step that runs."""

from traceback import walk_stack

from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import Optimizer

SCALED = GradScaler._maybe_opt_step.__code__


def overflow_of(optimizer: Optimizer) -> Tensor | None:
    """Not zero when a loss scaler tells a fused optimizer to move nothing; None when there is no such scaler."""
    overflow: Tensor | None = getattr(optimizer, "found_inf", None)
    return overflow


def scaled() -> bool:
    """Whether it is a loss scaler that has called the optimizer which is stepping."""
    return any(frame.f_code is SCALED for frame, _ in walk_stack(None))
