"""What the callbacks of other people's trainers share: one scope for each run of training, and its report."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from gradscope.analyzer import Analyzer
from gradscope.errors import NotRecorded
from gradscope.findings import Report
from gradscope.reports.loggers import Logger
from gradscope.reports.terminal import show
from gradscope.scope import OnFinding, Scope, paced, watch
from gradscope.selection import select


class WatchedRuns:
    """Watches the runs of a trainer, one after the other. Mixed into the callback that the trainer calls.

    Args:
        quiet: do not print the report when a run ends.
        logdir, every, budget, ignore, analyzers, on_finding, keep, loggers: as in `gradscope.watch`.

    Attributes:
        scope: of the current run or the last one; None before the first.

    Raises:
        UnknownAnalyzer: a name in `ignore` or `analyzers` that no analyzer has.
        BadSetting: pyproject.toml or the command line ask for something that cannot be meant.
        ValueError: `every` or `budget` is out of range.
    """

    def __init__(
        self,
        *,
        logdir: str | Path | None = None,
        every: int | None = None,
        budget: float = 0.02,
        ignore: Iterable[str] = (),
        analyzers: Iterable[Analyzer | str] | None = None,
        on_finding: OnFinding | None = None,
        keep: str | Iterable[str] = (),
        loggers: Iterable[Logger] = (),
        quiet: bool = False,
    ) -> None:
        super().__init__()
        paced(every, budget)
        self._selection = select(analyzers, ignore)
        self._options: dict[str, Any] = {"every": every, "budget": budget, "on_finding": on_finding, "keep": keep}
        self._logdir = logdir
        self._loggers = tuple(loggers)
        self._quiet = quiet
        self._main = self._running = False
        self._told = True
        self.scope: Scope | None = None

    def report(self) -> Report:
        """The report of the current run or the last one.

        Raises:
            NotRecorded: none has begun in this process.
        """
        if self.scope is None:
            raise NotRecorded(
                "no training has begun in this process: call report() after it, or read what was printed where it ran"
            )
        return self.scope.report()

    def _begin(self, model: nn.Module, *, main: bool, logdir: str | Path | None = None) -> Scope:
        """Begin to watch. Only the main one of several processes writes and prints."""
        self._end()
        self._main = main
        scope = watch(
            model,
            logdir=(self._logdir or logdir) if main else None,
            analyzers=self._selection.analyzers,
            ignore=self._selection.exempt,
            loggers=self._loggers if main else (),
            **self._options,
        )
        self.scope, self._running = scope.__enter__(), True
        return scope

    def _end(self, error: BaseException | None = None) -> None:
        """Stop watching, if a run is going on; `error` is what has ended it."""
        if self.scope is None or not self._running:
            return
        self._running, self._told = False, False
        self.scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def _tell(self) -> None:
        """Print the report of a run that has ended, once."""
        told, self._told = self._told, True
        if self.scope is None or told or self._quiet or not self._main:
            return
        with suppress(OSError, ValueError):  # a closed pipe, or a stream that cannot spell the user's line
            if sys.stdout.isatty():
                sys.stdout.write("\n")  # a progress bar may stand in this one
            show(self.scope.report())

    def __getstate__(self) -> dict[str, Any]:
        """A copy, and what a spawned process is given, has its runs still before it."""
        return {**self.__dict__, "scope": None, "_running": False, "_told": True}
