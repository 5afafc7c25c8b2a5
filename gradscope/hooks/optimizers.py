"""Tells of every optimizer of the process: when it was made, and after each of its steps."""

from collections.abc import Callable, Container
from functools import wraps
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from gradscope.hooks.broadcast import EVERYBODY, subscribe, unsubscribe

Told = Callable[[Optimizer], object]


class Optimizers:
    """Between `start` and `stop`, calls `on_made` and `on_stepped`; neither may raise."""

    def __init__(self, on_made: Told, on_stepped: Told) -> None:
        self.ignored: Container[int] = EVERYBODY
        self._on_made = on_made
        self._on_stepped = on_stepped
        self._on = False
        self._original = self._ours = Optimizer.__init__

    def start(self) -> None:
        """Begin to tell."""
        self._on = True
        self._original = Optimizer.__init__
        self._ours = self._telling(self._original)
        Optimizer.__init__ = self._ours  # type: ignore[method-assign]
        subscribe(self)

    def stop(self) -> None:
        """Tell no more. What others have wrapped around our wrapper meanwhile stays as it is, and ours falls silent."""
        self._on = False
        unsubscribe(self)
        if Optimizer.__init__ is self._ours:
            Optimizer.__init__ = self._original  # type: ignore[method-assign]

    def short_way(self, _module: nn.Module, _output: Any, /) -> bool:
        """A module has returned; nothing depends on that."""
        return True

    def after_forward(self, module: nn.Module, output: Any) -> None:
        """A module has returned; nothing depends on that."""

    def before_step(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step; who begins in the middle of a step would see half of it."""

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""
        self._on_stepped(optimizer)

    def _telling(self, original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def __init__(optimizer: Optimizer, *args: Any, **options: Any) -> None:  # noqa: N807  it stands for that one
            original(optimizer, *args, **options)
            if self._on:
                self._on_made(optimizer)

        return __init__
