"""Which autograd Function is at work, told by the stack: its `apply` is a Python frame, whatever name it goes by."""

import inspect
from functools import cache
from types import CodeType, FrameType
from typing import Any

from torch.autograd import Function

_APPLY: CodeType = Function.apply.__func__.__code__  # type: ignore[attr-defined]


class Applied:
    """One call of an autograd Function that is running."""

    def __init__(self, frame: FrameType) -> None:
        self.frame = frame
        self.function: type[Function] = frame.f_locals["cls"]
        self.args: tuple[Any, ...] = frame.f_locals["args"]

    @property
    def name(self) -> str:
        """The Function's name."""
        return self.function.__name__

    @property
    def is_torchs(self) -> bool:
        """Whether it is one of torch's own, such as a checkpoint."""
        return self.function.__module__.startswith("torch.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return _argument_names(self.function)


def applied(frame: FrameType | None) -> Applied | None:
    """The outermost Function of the user's on the stack, else the innermost one of torch's."""
    users, torchs = None, None
    while frame is not None:
        if frame.f_code is _APPLY:
            found = Applied(frame)
            if not found.is_torchs:
                users = found
            torchs = torchs or found
        frame = frame.f_back
    return users or torchs


@cache
def _argument_names(function: type[Function]) -> tuple[str, ...]:
    names = tuple(inspect.signature(function.forward).parameters)
    return names[1:] if function.setup_context is Function.setup_context else names
