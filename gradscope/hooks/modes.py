"""Torch's stack of function modes, and whether torch transforms the model rather than run it."""

import sys
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import _C
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

GRAPHS = torch.backends.cuda.is_built()


def put_at_bottom(mode: TorchFunctionMode) -> None:
    """Below all of the user's modes, so that they leave in the order they entered.

    Just above a default device, which insists on that place. Not from within a backward: autograd would take
    it off again.
    """
    above = _popped(lambda other: isinstance(other, DeviceContext))
    _push_mode(mode)
    _pushed(above)


def take_off(mode: TorchFunctionMode) -> None:
    """Off the stack, wherever in it the mode is."""
    above = _popped(lambda other: other is mode)
    if _C._len_torch_function_stack():
        _pop_mode()
    _pushed(above)


def capturing() -> bool:
    """Whether a CUDA graph is captured, of which nothing of ours may become a part."""
    return GRAPHS and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def transforming() -> bool:
    """Whether torch transforms or exports the model rather than run it: tracing, functorch, dual numbers, fakes."""
    return (
        _C._get_tracing_state() is not None
        or _C._functorch.maybe_current_level() is not None
        or forward_ad._current_level >= 0
        or (_C._len_torch_dispatch_stack() > 0 and _C._get_dispatch_mode(_C._TorchDispatchModeKey.FAKE) is not None)
    )


def compiles() -> bool:
    """Whether anything was compiled in this process; a function mode would have it compiled again."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return any(callable(backend) for backend in getattr(dynamo, "cached_backends", {}).values())


# Whether a module runs as most do, in questions and the answers they should have: its operations make a graph, outside
# of any backward and under no dispatch mode, and torch runs them rather than transforms or captures them. All are asked
# for each module, so where there is no CUDA none of them is a Python function.
ORDINARY: tuple[tuple[Callable[[], object], object], ...] = (
    (torch.is_grad_enabled, True),
    (_C._current_graph_task_id, -1),
    (_C._len_torch_dispatch_stack, 0),
    (_C._get_tracing_state, None),
    (_C._functorch.maybe_current_level, None),
    (partial(attrgetter("_current_level"), forward_ad), -1),
    *(((capturing, False),) if GRAPHS else ()),
)


def _popped(until: Callable[[Any], bool]) -> list[Any]:
    modes: list[Any] = []
    while _C._len_torch_function_stack():
        mode = _pop_mode()
        if until(mode):
            _push_mode(mode)
            break
        modes.append(mode)
    return modes


def _pushed(modes: list[Any]) -> None:
    for mode in reversed(modes):
        _push_mode(mode)
