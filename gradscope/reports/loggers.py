"""Other people's experiment loggers: what they are asked for, how a run reaches them, and a logger to CSV files."""

import csv
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

from gradscope.digest import SCALARS, Progress, digests
from gradscope.findings import Finding
from gradscope.records import Recording, Step

NAMESPACE = "gradscope"
FINDING = ("severity", "analyzer", "step", "where", "location", "message", "evidence", "why", "fix")


@runtime_checkable
class Logger(Protocol):
    """Takes the scalars and the findings of a run; pass it as `watch(model, loggers=[...])`.

    Any object with these methods will do. All are called in the training loop's thread, with what is new since about
    a second ago; what they raise becomes a note in the report, and the logger is not called again.
    """

    def log_scalars(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """For each new observed step a few numbers, by names of `gradscope.digest.SCALARS`; NaN is not finite."""

    def log_findings(self, findings: tuple[Finding, ...], step: int) -> None:
        """All findings up to this step, most important first. Called when they change, and at the end of the run."""

    def close(self) -> None:
        """The run is over. The logger may be given to another one."""


class LoggerSink:
    """Hands a logger what is new in a recording: each finished observed step once, in order."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._progress = Progress()

    def write(self, recording: Recording, findings: tuple[Finding, ...]) -> None:
        """Log the steps that are new, and the findings if they changed or the run is over."""
        steps = self._progress.new_steps(recording)
        if steps:
            self._logger.log_scalars(_scalars(recording, steps))
        if self._progress.news(recording, findings):
            self._logger.log_findings(findings, max(self._progress.last_step, 0))

    def close(self) -> None:
        """The run is over."""
        self._logger.close()


def _scalars(recording: Recording, steps: tuple[Step, ...]) -> dict[int, dict[str, float]]:
    found = digests(recording, steps)
    return {
        step.index: dict(scalar for digest in found for scalar in digest.scalars(row)) for row, step in enumerate(steps)
    }


class CSVLogger:
    """Writes `scalars.csv`, one row per observed step, and `findings.csv`, one row per finding, into a folder.

    Args:
        folder: made if it is missing. What a run before has left there is overwritten; of several runs with the
            same logger, all are kept in `scalars.csv`, one below the other.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = Path(folder)
        self._begun = False

    def log_scalars(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Append rows; a statistic that was not measured is an empty cell, one that is not finite is nan."""
        if not self._begun:
            self._write("scalars.csv", "w", [("step", *SCALARS)])
            self._begun = True
        rows = ((step, *map(scalars.get, SCALARS)) for step, scalars in steps.items())
        self._write("scalars.csv", "a", rows)

    def log_findings(self, findings: tuple[Finding, ...], step: int) -> None:  # noqa: ARG002  each row has its own
        """Write the table of findings anew."""
        rows = ([getattr(finding, column) for column in FINDING] for finding in findings)
        self._write("findings.csv", "w", [FINDING, *rows])

    def close(self) -> None:
        """Nothing is left open."""

    def _write(self, name: str, mode: str, rows: Iterable[Iterable[object]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open(mode, encoding="utf-8", errors="replace", newline="") as file:
            csv.writer(file).writerows(rows)
