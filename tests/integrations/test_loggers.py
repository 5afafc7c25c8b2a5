"""Loggers of other people: what they are handed, and what has really arrived there."""

import csv
import math
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradscope.digest import SCALARS
from gradscope.findings import Finding, Severity
from gradscope.records import StepEnd
from gradscope.reports.loggers import CSVLogger, LoggerSink
from gradscope.scope import Scope, watch
from gradscope.testing import recording
from gradscope.traces import Location


class Memory:
    """A logger as a user would write one."""

    def __init__(self) -> None:
        self.scalars: dict[int, dict[str, float]] = {}
        self.findings: list[tuple[int, tuple[Finding, ...]]] = []
        self.closed = 0

    def log_scalars(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        assert steps
        assert not set(steps) & set(self.scalars)
        self.scalars |= {step: dict(scalars) for step, scalars in steps.items()}

    def log_findings(self, findings: tuple[Finding, ...], step: int) -> None:
        self.findings.append((step, findings))

    def close(self) -> None:
        self.closed += 1


class Broken(Memory):
    """A logger whose server is away."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.calls = 0

        def fail(*_: Any, **__: Any) -> None:
            self.calls += 1
            raise ConnectionError("the server is away")

        setattr(self, method, fail)


def train(*loggers: Any, zero: bool = True, steps: int = 6, **options: Any) -> tuple[Scope, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    with watch(net, loggers=loggers, every=1, **options) as scope:
        for _ in range(steps):
            net(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
            if zero:
                optimizer.zero_grad()
    return scope, net.state_dict()


def test_a_logger_gets_each_observed_step_once_and_the_findings_when_they_change() -> None:
    memory = Memory()
    scope, _ = train(memory, zero=False)
    assert list(memory.scalars) == [0, 1, 2, 3, 4, 5]
    assert set(memory.scalars[0]) == set(SCALARS)
    assert all(math.isfinite(value) for scalars in memory.scalars.values() for value in scalars.values())
    assert memory.findings[-1] == (5, scope.findings)
    assert [finding.analyzer for finding in scope.findings] == ["unzeroed-gradient"]
    assert memory.closed == 1


def test_a_healthy_run_is_told_at_its_end() -> None:
    memory = Memory()
    train(memory)
    assert memory.findings[-1] == (5, ())


def test_several_runs_can_share_a_logger() -> None:
    memory = Memory()
    train(memory)
    memory.scalars.clear()
    train(memory)
    assert list(memory.scalars) == [0, 1, 2, 3, 4, 5]
    assert memory.closed == 2


def test_loggers_do_not_change_a_bit_and_tensorboard_gets_its_part(tmp_path: Path) -> None:
    _, plain = train()
    _, logged = train(Memory(), CSVLogger(tmp_path / "csv"), Broken("log_scalars"), logdir=tmp_path)
    assert all(torch.equal(plain[name], logged[name]) for name in plain)
    assert list(tmp_path.glob("gradscope/events*"))


@pytest.mark.parametrize("method", ["log_scalars", "log_findings", "close"])
def test_a_logger_that_breaks_is_a_note_and_not_called_again(method: str) -> None:
    broken, memory = Broken(method), Memory()
    scope, _ = train(broken, memory)
    assert scope.report().notes == ("Broken: ConnectionError('the server is away')",)
    assert broken.calls == 1
    assert list(memory.scalars) == [0, 1, 2, 3, 4, 5]
    assert memory.closed == 1


@pytest.mark.parametrize("wrong", [None, "wandb", object()])
def test_what_is_no_logger_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match="pass a WandbLogger or MLflowLogger"):
        watch(nn.Linear(1, 1), loggers=[wrong])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


FINDING = Finding(
    analyzer="unzeroed-gradient",
    severity=Severity.ERROR,
    step=0,
    message='"used", twice;\nand more',
    evidence="26 gradients",
    fix="call zero_grad()",
    sites=("a,b",),
    location=Location("caf\udce9.py", 41),
)


def test_csv_files_hold_what_was_found(tmp_path: Path) -> None:
    sink = LoggerSink(CSVLogger(tmp_path / "new" / "folder"))
    made = recording(steps=3, activation={"a": [1.0, None, math.nan], "b": [3.0, None, 2.0]}, ends={2: StepEnd.OPEN})
    sink.write(made, ())
    sink.write(replace(made, complete=True), (FINDING,))
    sink.close()
    first, second, third = read(tmp_path / "new" / "folder" / "scalars.csv")
    assert list(first) == ["step", *SCALARS]
    assert (first["step"], second["step"], third["step"]) == ("0", "1", "2")
    assert first["activation/rms/median"] == "2.0"
    assert second["activation/rms/median"] == first["parameter/rms/median"] == ""
    assert third["activation/rms/worst"] == "nan"
    (row,) = read(tmp_path / "new" / "folder" / "findings.csv")
    assert row == {
        "severity": "error", "analyzer": "unzeroed-gradient", "step": "0", "where": "'a,b'", "location": "caf?.py:41",
        "message": FINDING.message, "evidence": "26 gradients", "why": "", "fix": "call zero_grad()",
    }  # fmt: skip


def test_csv_files_of_an_earlier_program_are_overwritten_and_of_this_one_continued(tmp_path: Path) -> None:
    train(CSVLogger(tmp_path), steps=3)
    logger = CSVLogger(tmp_path)
    train(logger, steps=2)
    assert [row["step"] for row in read(tmp_path / "scalars.csv")] == ["0", "1"]
    train(logger, steps=2, zero=False)
    assert [row["step"] for row in read(tmp_path / "scalars.csv")] == ["0", "1", "0", "1"]
    assert [row["analyzer"] for row in read(tmp_path / "findings.csv")] == ["unzeroed-gradient"]


def test_a_folder_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    scope, _ = train(CSVLogger(tmp_path / "file"))
    (note,) = scope.report().notes
    assert note.startswith("CSVLogger: ")


@pytest.fixture
def wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A run of Weights & Biases that writes to the disk alone."""
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    import wandb  # noqa: PLC0415  it looks at the environment

    wandb.teardown()  # it looks there once
    run = wandb.init(mode="offline", project="gradscope", settings=wandb.Settings(console="off", silent=True))
    yield run
    run.finish()
    wandb.teardown()


def written(run: Any) -> list[Any]:
    """The records in the file of a run of Weights & Biases that has been finished; another process writes it."""
    (file,) = Path(run.dir).parent.glob("*.wandb")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        records = list(parsed(file.read_bytes()))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)
    raise TimeoutError(f"{file} does not come to its end")


def parsed(data: bytes) -> Iterator[Any]:
    """The records that are there in full: LevelDB's log format, of protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415

    position, pending = 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        end = position + 7 + length
        if end > len(data):
            return
        position, pending = end, pending + data[position + 7 : end]
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(pending)
            pending = b""


def history(records: list[Any]) -> list[dict[str, str]]:
    rows = [record.history.item for record in records if record.WhichOneof("record_type") == "history"]
    return [{item.key or ".".join(item.nested_key): item.value_json for item in row} for row in rows]


def test_a_run_of_weights_and_biases_has_charts_a_table_and_an_alert(wandb_run: Any) -> None:
    from gradscope.integrations.wandb import WandbLogger  # noqa: PLC0415

    scope, _ = train(WandbLogger(wandb_run, commit=True), zero=False)
    assert scope.report().notes == ()
    wandb_run.finish()
    records = written(wandb_run)
    charts = [row for row in history(records) if "gradscope/update/ratio/median" in row]
    assert [row["gradscope/step"] for row in charts] == ["0", "1", "2", "3", "4", "5"]
    assert {f"gradscope/{name}" for name in SCALARS} <= set(charts[0])
    assert float(charts[0]["gradscope/parameter/rms/median"]) > 0
    tables = [path.read_text() for path in Path(wandb_run.dir).glob("media/table/gradscope/findings_*.table.json")]
    assert any(scope.findings[0].message in table for table in tables)
    (alert,) = (record.alert for record in records if record.WhichOneof("record_type") == "alert")
    assert (alert.title, alert.level) == ("gradscope: unzeroed-gradient", "ERROR")
    assert "test_loggers.py" in alert.text


def test_the_users_own_steps_at_weights_and_biases_stay_as_they_are(wandb_run: Any) -> None:
    from gradscope.integrations.wandb import WandbLogger  # noqa: PLC0415

    with watch(net := nn.Linear(4, 2), loggers=[WandbLogger(wandb_run)], every=1):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(8):
            net(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            wandb_run.log({"loss": step}, step=step)
    wandb_run.finish()
    rows = history(written(wandb_run))
    assert [(row["_step"], row["loss"]) for row in rows] == [(str(step), str(step)) for step in range(8)]
    assert any("gradscope/update/ratio/median" in row for row in rows)


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow with its store in a folder."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    import mlflow  # noqa: PLC0415  it looks at the environment

    return mlflow


def test_a_run_of_mlflow_has_metrics_a_text_and_a_tag(mlflow: Any) -> None:
    from gradscope.integrations.mlflow import MLflowLogger  # noqa: PLC0415

    with mlflow.start_run() as run:
        scope, _ = train(MLflowLogger(), zero=False, steps=120)
    assert scope.report().notes == ()
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    assert set(client.get_run(run_id).data.metrics) == {f"gradscope/{name}" for name in SCALARS}
    points = client.get_metric_history(run_id, "gradscope/update/ratio/median")
    assert sorted(point.step for point in points) == list(range(120))
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/gradscope/findings.txt") == f"{scope.findings[0]}\n"
    assert client.get_run(run_id).data.tags["gradscope.findings"] == "unzeroed-gradient"


def test_a_run_of_mlflow_can_be_named(mlflow: Any) -> None:
    from gradscope.integrations.mlflow import MLflowLogger  # noqa: PLC0415

    client = mlflow.MlflowClient()
    run_id = client.create_run(client.create_experiment("gradscope")).info.run_id
    train(MLflowLogger(run_id, client))
    assert client.get_run(run_id).data.tags["gradscope.findings"] == "none"
    with pytest.raises(ValueError, match="no MLflow run is active"):
        MLflowLogger()


def test_a_value_that_is_not_finite_arrives_as_such(mlflow: Any) -> None:
    from gradscope.integrations.mlflow import MLflowLogger  # noqa: PLC0415

    with mlflow.start_run() as run:
        logger = MLflowLogger()
        logger.log_scalars({3: {"activation/rms/worst": math.nan}})
        logger.close()
    (point,) = mlflow.MlflowClient().get_metric_history(run.info.run_id, "gradscope/activation/rms/worst")
    assert point.step == 3
    assert math.isnan(point.value)
