"""Watches what a process trains, from the moment it begins to, and never disturbs it."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from gradscope.running.arrival import when_imported
from gradscope.running.first import when_training_begins
from gradscope.running.options import Options
from gradscope.settings import begin, end

if TYPE_CHECKING:
    from torch import Tensor

    from gradscope.summary import Summary
    from gradscope.watching import Everything


class Watch:
    """Between `start` and `end`, whatever this process trains is watched.

    Nothing is imported before the program has imported torch, for what it sets up first has to count; and nothing
    before it trains, for processes that train nothing shall not pay.
    """

    def __init__(self, options: Options, on_step: "Callable[[Everything], object] | None" = None) -> None:
        self._options = options
        self._on_step = on_step
        self._everything: Everything | None = None
        self._failure: str | None = None
        self._process = os.getpid()
        self._call_off: Callable[[], None] = lambda: None
        self._wait: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Wait for torch. What was asked for on the command line holds for what the program itself watches, too."""
        begin(self._options.settings)
        self._call_off = when_imported("torch", self._torch_is_there)

    def end(self, error: BaseException | None = None) -> "Summary":
        """Watch no more. Returns what was found; `error` is the exception that ended the program."""
        from gradscope.summary import Summary

        self._stop_waiting()
        notes = (self._failure,) if self._failure else ()
        if self._everything is None:
            return Summary(notes=notes)
        self._everything.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        return Summary(self._everything.reports(), (*notes, *self._everything.notes))

    def abandon(self) -> None:
        """Watch no more in a copy of this process, whose models are the business of the process itself."""
        self._stop_waiting()
        if self._everything is not None:
            self._everything.abandon()
            self._everything = None

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that started it, and not a fork."""
        return self._process == os.getpid()

    def _torch_is_there(self) -> None:
        if "gradscope.watching" in sys.modules:
            self._begin([])
            return
        try:
            self._wait = when_training_begins(self._begin)
        except Exception as error:  # noqa: BLE001  the program runs on, whatever has become of us
            self._failure = f"anything: {error!r}"

    def _stop_waiting(self) -> None:
        end(self._options.settings)
        self._call_off()
        self._wait()

    def _begin(self, trained: "list[Tensor]") -> None:
        """Watch what optimizers train from now on, and what is trained without one."""
        try:
            from gradscope.watching import watch_everything

            options = self._options
            self._everything = watch_everything(
                logdir=options.logdir,
                every=options.every,
                budget=options.budget,
                on_step=self._on_step,
            ).__enter__()
            if trained:
                self._everything.trained_by_hand(trained)
        except Exception as error:  # noqa: BLE001  the program runs on, whatever has become of us
            self._failure = f"anything: {error!r}"
