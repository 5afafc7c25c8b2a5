"""A logger for MLflow."""

import time
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from gradscope.findings import Finding

FINDINGS = "gradscope/findings.txt"
TAG = "gradscope.findings"
MOST_METRICS = 1000  # in one request, says MLflow


class MLflowLogger:
    """Logs to a run of MLflow: metrics below `gradscope/`, the findings as the artifact `gradscope/findings.txt`.

    The names of what was found are in the run's tag `gradscope.findings`, which the table of runs shows. Metrics
    are sent by a thread of MLflow's; what is still on its way is waited for before the next ones, and at the end.

    Args:
        run_id: of an existing run; None takes the active one.
        client: how to reach its server; None takes MLflow's tracking URI.

    Raises:
        ValueError: no run is active, and none was named.
    """

    def __init__(self, run_id: str | None = None, client: MlflowClient | None = None) -> None:
        self._client = client or MlflowClient()
        self._run_id = run_id or _active()
        self._pending: Any = None

    def log_scalars(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Send the numbers of these steps."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"gradscope/{name}", value, now, step)
            for step, scalars in steps.items()
            for name, value in scalars.items()
        ]
        for begin in range(0, len(metrics), MOST_METRICS):
            self._wait()  # MLflow's threads would overtake each other
            batch = metrics[begin : begin + MOST_METRICS]
            self._pending = self._client.log_batch(self._run_id, batch, synchronous=False)

    def log_findings(self, findings: tuple[Finding, ...], step: int) -> None:  # noqa: ARG002  the text names the steps
        """Write the artifact anew, and the tag."""
        text = "\n\n".join(map(str, findings)) or "No findings."
        self._client.log_text(self._run_id, f"{text}\n", FINDINGS)
        names = dict.fromkeys(finding.analyzer for finding in findings)
        self._client.set_tag(self._run_id, TAG, ", ".join(names) or "none")

    def close(self) -> None:
        """Wait for what is still on its way; the run is the user's, who ends it."""
        self._wait()

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.wait()


def _active() -> str:
    run = mlflow.active_run()
    if run is None:
        raise ValueError("no MLflow run is active: make the logger inside `with mlflow.start_run():`, or pass a run_id")
    return str(run.info.run_id)
