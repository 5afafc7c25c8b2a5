"""An exception that left the user's loop, as data: in which module, on which line, with which shapes at hand."""

import re
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType

import torch
from torch import Tensor, nn

from gradscope.hooks.frames import is_users_own, location
from gradscope.hooks.registry import Registry
from gradscope.traces import Failure, Location, Operation

MOST_OPERANDS = 8

_AUTOGRAD = str(Path(torch.autograd.__file__).parent)
_GRADIENT = re.compile(
    r"Function (?P<name>\w+) returned an invalid gradient at index (?P<position>\d+) - "
    r"got \[(?P<got>[\d, ]*)\] but expected shape compatible with \[(?P<expected>[\d, ]*)\]"
)

Walked = list[tuple[FrameType, int]]


def describe(
    error: BaseException, registry: Registry, step: int, last_gradient: str, failed: Operation | None = None
) -> Failure:
    """What an exception says about the model.

    `last_gradient` is the module whose gradient arrived last, `failed` the traced operation that raised.
    """
    frames = list(walk_tb(error.__traceback__))
    backward = any(frame.f_code.co_filename.startswith(_AUTOGRAD) for frame, _ in frames)
    module, frame = (last_gradient, None) if backward else _innermost(frames, registry)
    found = _GRADIENT.search(str(error))
    return Failure(
        step=step,
        phase="backward" if backward else "forward",
        module=module,
        message=str(error),
        operation=found["name"] if found else "",
        operands=tuple(_operands(frame)) if frame else (),
        expected=_shape(found["expected"]) if found else None,
        got=_shape(found["got"]) if found else None,
        location=_users_line(error.__traceback__),
        failed=None if backward else failed,
        position=int(found["position"]) if found else None,
    )


def _innermost(frames: Walked, registry: Registry) -> tuple[str, FrameType | None]:
    for frame, _ in reversed(frames):
        if frame.f_code.co_name == "forward":
            path = registry.module_path(frame.f_locals.get("self"))
            if path is not None:
                return path, frame
    return "", None


def _operands(frame: FrameType) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors in a forward: its local variables, then the module's own parameters."""
    known = {name: value for name, value in frame.f_locals.items() if isinstance(value, Tensor)}
    module = frame.f_locals.get("self")
    if isinstance(module, nn.Module):
        known |= {name: value for name, value in module._parameters.items() if value is not None}
    for name, value in list(known.items())[:MOST_OPERANDS]:
        yield name, tuple(value.shape)


def _users_line(trace: TracebackType | None) -> Location | None:
    last = None
    while trace is not None:
        if is_users_own(trace.tb_frame):
            last = trace
        trace = trace.tb_next
    return None if last is None else location(last.tb_frame, last.tb_lineno, last.tb_lasti)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number.strip())
