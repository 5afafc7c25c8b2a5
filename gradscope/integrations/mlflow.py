"""A logger for MLflow."""

import time
from collections.abc import Mapping

import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from gradscope.findings import Finding

FINDINGS = "gradscope/findings.txt"
TAG = "gradscope.findings"
MOST_METRICS = 1000  # in one request, says MLflow


class MLflowLogger:
    """Logs to a run of MLflow: metrics below `gradscope/`, the findings as the artifact `gradscope/findings.txt`.

    The names of what was found are in the run's tag `gradscope.findings`, which the table of runs shows. About
    once a second there is one request, and the training waits for it: a store in files bears no second thread.

    Args:
        run_id: of an existing run; None takes the active one.
        client: how to reach its server; None takes MLflow's tracking URI.

    Raises:
        ValueError: no run is active, and none was named.
    """

    def __init__(self, run_id: str | None = None, client: MlflowClient | None = None) -> None:
        self._client = client or MlflowClient()
        self._run_id = run_id or _active()

    def log_scalars(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Log the numbers of these steps."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"gradscope/{name}", value, now, step)
            for step, scalars in steps.items()
            for name, value in scalars.items()
        ]
        for begin in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run_id, metrics[begin : begin + MOST_METRICS], synchronous=True)

    def log_findings(self, findings: tuple[Finding, ...], step: int) -> None:  # noqa: ARG002  the text names the steps
        """Write the artifact anew, and the tag."""
        text = "\n\n".join(map(str, findings)) or "No findings."
        self._client.log_text(self._run_id, f"{text}\n", FINDINGS)
        names = dict.fromkeys(finding.analyzer for finding in findings)
        self._client.set_tag(self._run_id, TAG, ", ".join(names) or "none")

    def close(self) -> None:
        """The run is the user's, who ends it."""


def _active() -> str:
    run = mlflow.active_run()
    if run is None:
        raise ValueError("no MLflow run is active: make the logger inside `with mlflow.start_run():`, or pass a run_id")
    return str(run.info.run_id)
