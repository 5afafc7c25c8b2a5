"""The digits example and the demo, whole: silent on the healthy program, each fault named first."""

import math
from pathlib import Path
from typing import Any

import demo
import pytest
from digits import FAULTS, Outcome, main, run

from gradscope.findings import Finding, Report, Severity


@pytest.fixture(scope="module")
def healthy() -> Outcome:
    return run(quiet=True)


def test_the_healthy_program_learns(healthy: Outcome) -> None:
    assert healthy.accuracy >= 0.95
    assert healthy.error is None


def test_nothing_is_wrong_with_the_healthy_program(healthy: Outcome) -> None:
    assert healthy.report.steps == 12 * 21
    assert healthy.report.healthy, str(healthy.report)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_planted_fault_is_the_first_finding(fault: str) -> None:
    report = run(fault, quiet=True).report
    assert report.findings, str(report)
    assert report.findings[0].analyzer == FAULTS[fault].expected, str(report)


def test_the_error_of_a_program_is_kept_with_what_was_found_about_it() -> None:
    outcome = run("transposed-backward", quiet=True)
    assert math.isnan(outcome.accuracy)
    assert isinstance(outcome.error, RuntimeError)
    (note,) = outcome.error.__notes__
    assert "shape-mismatch" in note
    assert "head.3" in note


def test_the_command_writes_a_plot_and_tensorboard_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--fault", "no-zero-grad", "--epochs", "1", "--logdir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("test accuracy ")
    assert "unzeroed-gradient" in printed
    assert f"tensorboard --logdir {tmp_path}" in printed
    folder = tmp_path / "no-zero-grad"
    assert (folder / "gradient_flow.png").read_bytes().startswith(b"\x89PNG")
    assert list(folder.rglob("events.out.tfevents.*"))


def test_the_command_shows_the_program_s_own_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--fault", "transposed-backward", "--logdir", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "RuntimeError: Function LinearFunctionBackward returned an invalid gradient" in printed.err
    assert "shape-mismatch" in printed.err
    assert "shape-mismatch" in printed.out


def made_up(analyzer: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(analyzer, severity, step=1, message="m", evidence="e", fix="f", sites=("head.0",))


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str | None, Outcome]:
    """What the demo's runs come to, without running them; as it should be."""

    def fake_run(fault: str | None, **_: Any) -> Outcome:
        return table[fault]

    scope: Any = None
    table: dict[str | None, Outcome] = {None: Outcome(0.97, Report(), scope)}
    for fault, program in FAULTS.items():
        table[fault] = Outcome(0.5, Report((made_up(program.expected), made_up("another"))), scope)
    monkeypatch.setattr(demo, "run", fake_run)
    return table


def test_the_demo_ends_well(outcomes: dict[str | None, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    closing = capsys.readouterr().out.splitlines()[-len(outcomes) - 5 :]
    assert sum("│ ok" in line for line in closing) == len(outcomes)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        (None, {"accuracy": 0.94}),
        (None, {"report": Report((made_up("dead-units", Severity.WARNING),))}),
        ("detach", {"report": Report()}),
        ("detach", {"report": Report((made_up("another"), made_up("detached-tensor")))}),
    ],
)
def test_the_demo_says_what_was_missed(
    outcomes: dict[str | None, Outcome],
    capsys: pytest.CaptureFixture[str],
    program: str | None,
    outcome: dict[str, Any],
) -> None:
    given = {"accuracy": 0.97, "report": Report(), "scope": None}
    outcomes[program] = Outcome(**{**given, **outcome})
    assert demo.main() == 1
    (missed,) = [line for line in capsys.readouterr().out.splitlines() if "MISSED" in line]
    assert (program or "healthy") in missed
