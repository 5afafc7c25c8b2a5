"""A logger for Weights & Biases."""

from collections.abc import Mapping
from typing import Any

import wandb

from gradscope.findings import Finding, Severity

LEVELS = {Severity.ERROR: "ERROR", Severity.WARNING: "WARN", Severity.NOTE: "INFO"}
COLUMNS = ("severity", "analyzer", "step", "where", "location", "message", "evidence", "fix")
LONGEST_TITLE = 63


class WandbLogger:
    """Logs to a run of Weights & Biases: charts and a table of findings below `gradscope/`, an alert for each finding.

    Args:
        run: what `wandb.init()` returns.
        commit: by default the numbers ride on the run's next `log()` of your own, so that its steps stay what you
            make them; of several observed steps in between the last one is kept. Pass True if nobody else logs.
    """

    def __init__(self, run: Any, *, commit: bool = False) -> None:
        self._run = run
        self._commit = commit
        self._alerted: set[tuple[str, str]] = set()
        run.define_metric("gradscope/*", step_metric="gradscope/step")

    def log_scalars(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Log the numbers of each step, or of the last one, over the axis `gradscope/step`."""
        for step in steps if self._commit else [*steps][-1:]:
            row = {f"gradscope/{name}": value for name, value in steps[step].items()}
            self._run.log({**row, "gradscope/step": step}, commit=self._commit)

    def log_findings(self, findings: tuple[Finding, ...], step: int) -> None:
        """Log the table of findings, and alert of those that are new."""
        rows = [[str(_or_empty(getattr(finding, column))) for column in COLUMNS] for finding in findings]
        table = wandb.Table(columns=list(COLUMNS), data=rows)
        self._run.log({"gradscope/findings": table, "gradscope/step": step}, commit=self._commit)
        for finding in findings:
            self._alert(finding)

    def close(self) -> None:
        """The run is the user's, who finishes it."""

    def _alert(self, finding: Finding) -> None:
        if (key := (finding.analyzer, finding.cause)) not in self._alerted:
            self._alerted.add(key)
            title = f"gradscope: {finding.analyzer}"[:LONGEST_TITLE]
            self._run.alert(title, f"```\n{finding}\n```", level=LEVELS[finding.severity])


def _or_empty(value: object) -> object:
    return "" if value is None else value
