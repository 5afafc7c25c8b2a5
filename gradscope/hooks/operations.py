"""A trace: a torch function mode that sees every torch function of the user's, and notes each in a ledger."""

import sys
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradscope.hooks import stand_in, statistics
from gradscope.hooks.clipping import FILES, Clipping
from gradscope.hooks.ledger import Ledger
from gradscope.hooks.loop import current_task
from gradscope.hooks.modes import put_at_bottom, take_off, transforming
from gradscope.hooks.spelling import spoken
from gradscope.hooks.traced import Call, Traced

# The arithmetic of optimizers and our own is no part of the way to the loss.
_UNSEEN = (str(Path(torch.optim.__file__).parent), str(Path(__file__).parent))


class Trace(TorchFunctionMode):
    """Notes operations between `start` and `stop`. `pause` interrupts it, until `start` is called again."""

    def __init__(self, ledger: Ledger, clipping: Clipping) -> None:
        super().__init__()
        self._ledger = ledger
        self._clipping = clipping
        self._names: dict[Any, str] = {}
        self._thread = 0
        self._on = False

    @property
    def lost(self) -> str:
        """What befell the trace, if it is worth nothing any more."""
        return self._ledger.lost

    @property
    def saw_loss(self) -> bool:
        """Whether a backward began while it ran."""
        return self._ledger.saw_loss

    @property
    def full(self) -> bool:
        """Whether it notes no more operations."""
        return self._ledger.full

    def start(self) -> None:
        """Begin to listen. Not from within a backward: autograd would take the mode off again."""
        if not self._on:
            self._thread = get_ident()
            put_at_bottom(self)
            self._on = True

    def pause(self) -> None:
        """Take the mode off the stack."""
        if self._on:
            self._on = False
            take_off(self)

    def stop(self) -> Traced:
        """Take the mode off the stack for good; what was traced."""
        self.pause()
        traced = self._ledger.close()
        return Traced([], traced.transfer, None) if self.lost else traced

    def at_home(self) -> bool:
        """Whether this is the thread it was started in: every thread has a mode stack of its own."""
        return get_ident() == self._thread

    def backward_begins(self) -> None:
        """A backward runs, perhaps one that nobody saw being called."""
        self._ledger.backward_begins()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return func(*args, **kwargs)
        name = self._name(func)
        caller = sys._getframe(1)
        if not name or self.lost or current_task() != -1 or caller.f_code.co_filename.startswith(_UNSEEN):
            return stand_in.call(func, args, kwargs, caller)
        if caller.f_code.co_filename in FILES:
            self._guarded(self._clipping.saw, name, caller, args)
        call: Call | None = self._guarded(self._ledger.open, name, caller, args, kwargs)
        try:
            result = stand_in.call(func, args, kwargs, caller)
        except BaseException:
            self._ledger.failed = call
            raise
        if call is not None:
            self._guarded(self._ledger.note, call, args, result)
        return result

    def _name(self, func: Any) -> str:
        name = self._names.get(func)
        if name is None:
            name = self._names[func] = spoken(func)
        return name

    def _guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """The user's operation must run, whatever befalls the trace."""
        try:
            if not transforming():
                with statistics.out_of_sight():
                    return function(*args)
        except Exception as error:  # noqa: BLE001  as said above
            self._ledger.lose(error)
        return None
