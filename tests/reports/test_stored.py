"""What a run has left in a log directory, read back."""

from dataclasses import replace
from pathlib import Path

import pytest

from gradscope.errors import NothingStored
from gradscope.exchange import from_dict, to_dict
from gradscope.findings import Finding, Report, Severity
from gradscope.reports.stored import stored
from gradscope.reports.tensorboard import TensorBoardWriter
from gradscope.testing.recordings import recording
from gradscope.traces import Location

FINDING = Finding(
    "detached-tensor",
    Severity.ERROR,
    2,
    "the graph is cut \u5c64",
    "nothing arrives",
    "remove it",
    why="it does not learn",
    sites=("fc1.weight",),
    scope="1 of 4 parameters",
    location=Location("C:\\train.py", 7, "", "h = h.detach()", 5, 14),
    cause="fc2",
    consequences=("zero-gradient at step 3: nothing arrives",),
    table=(("site", "min"), ("fc1", "0")),
)


def write(folder: Path, *findings: Finding) -> None:
    writer = TensorBoardWriter(folder)
    writer.write(recording(steps=2, activation={"a": 1.0}), ())
    writer.write(recording(steps=5, activation={"a": 1.0}, complete=True), findings)
    writer.close()


@pytest.mark.parametrize("report", [Report((FINDING,), 10, 8, 3, 0.01, ("a note",)), Report()])
def test_a_report_survives_as_plain_data(report: Report) -> None:
    assert from_dict(to_dict(report)) == report


@pytest.mark.parametrize("data", [{}, {"findings": [3]}, {"findings": [], "steps": "many"}])
def test_anything_else_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no report|invalid literal"):
        from_dict(data)


def test_the_last_report_of_each_run_is_read(tmp_path: Path) -> None:
    write(tmp_path / "Generator", FINDING)
    write(tmp_path / "deep" / "Net")
    summary = stored(tmp_path)
    assert list(summary.reports) == ["Generator", str(Path("deep/Net"))]
    report = summary.reports["Generator"]
    assert report.findings == (replace(FINDING, location=replace(FINDING.location, function="")),)  # type: ignore[type-var]
    assert (report.steps, report.observed) == (5, 5)
    assert report.verdict == "gradscope: 1 error in 5 steps, 5 observed."


def test_where_nothing_is_stored_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingStored, match="nothing of gradscope is stored"):
        stored(tmp_path)
    with pytest.raises(NothingStored):
        stored(tmp_path / "nowhere")
