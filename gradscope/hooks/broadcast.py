"""The three global hooks of the process, registered once for all scopes.

While one thread runs an optimizer's hooks, another must not change their table: torch would raise in the
middle of the user's step. So hooks are registered with the first scope and removed with the last.
"""

from collections.abc import Container
from threading import Lock
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradscope.hooks.modes import compiles


class _Everybody(Container[int]):
    """The ids of all modules that there are and will be."""

    def __contains__(self, _key: object) -> bool:
        return True


EVERYBODY = _Everybody()
NOBODY: Container[int] = frozenset()


class Listener(Protocol):
    """Who wants to hear of every module's forward and every optimizer's step in the process.

    `ignored` are the ids of the modules whose forward does not matter now, or `EVERYBODY`. What the `short_way` does
    not take goes to `after_forward`.
    """

    ignored: Container[int]

    def short_way(self, module: nn.Module, output: Any, /) -> bool:
        """A module has returned; whether that was noted already."""

    def after_forward(self, module: nn.Module, output: Any) -> None:
        """A module has returned."""

    def before_step(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step."""

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""


_lock = Lock()
_listeners: tuple[Listener, ...] = ()
_handles: list[Any] = []
_forward: list[Any] = []


def subscribe(listener: Listener) -> None:
    """Tell a listener of everything from now on."""
    global _listeners  # noqa: PLW0603  the hooks are the process's, and so is who listens to them
    with _lock:
        _listeners = (*_listeners, listener)
        if not _handles:
            _handles.append(register_optimizer_step_pre_hook(_before_step))
            _handles.append(register_optimizer_step_post_hook(_after_step))
    follow_wishes()


def unsubscribe(listener: Listener) -> None:
    """Tell it nothing more."""
    global _listeners  # noqa: PLW0603  as above
    with _lock:
        _listeners = tuple(other for other in _listeners if other is not listener)
        while _handles and not _listeners:
            _handles.pop().remove()
    follow_wishes()


def follow_wishes() -> None:
    """Have the forward hook on while anybody wants to hear of a module, and off when nobody does.

    Once something was compiled in the process it stays on: compiled code is made anew whenever it comes or goes.
    """
    with _lock:
        wanted = any(listener.ignored is not EVERYBODY for listener in _listeners)
        if wanted and not _forward:
            _forward.append(register_module_forward_hook(_after_forward))
        elif _forward and not wanted and not (_listeners and compiles()):
            _forward.pop().remove()


def _after_forward(module: nn.Module, _args: Any, output: Any) -> None:
    if torch.compiler.is_compiling():
        return
    for listener in _listeners:
        if id(module) not in listener.ignored and not listener.short_way(module, output):
            listener.after_forward(module, output)


def _before_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    for listener in _listeners:
        listener.before_step(optimizer)


def _after_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    for listener in _listeners:
        listener.after_step(optimizer)
