"""Programs as people write them: silent under `gradscope run` while healthy, with the same output as without."""

from pathlib import Path

import pytest
from running.commands import PROGRAMS, gradscope_run, own_main, python

from gradscope.cli import main
from gradscope.running.programs import Program

HEALTHY = sorted(file.stem for file in PROGRAMS.glob("*.py") if file.stem != "sick")


def watched(name: str, *options: str) -> int:
    with own_main():
        return main(["run", *options, str(PROGRAMS / f"{name}.py")])


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_program_prints_the_same_and_raises_no_alarm(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with own_main():
        Program(str(PROGRAMS / f"{name}.py")).run()
    bare = capsys.readouterr()
    assert watched(name, "--fail-on", "warning") == 0
    with_us = capsys.readouterr()
    assert bare.out
    assert with_us.out == bare.out
    for line in with_us.err.splitlines():
        assert line.startswith("gradscope: "), with_us.err
        assert "no findings in" in line
    assert with_us.err


def test_there_are_ten_of_them() -> None:
    assert len(HEALTHY) >= 10


def test_the_sick_one_is_told_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert watched("sick", "--fail-on", "error", "--html", str(tmp_path / "report.html")) == 3
    told = capsys.readouterr().err
    assert "ERROR    detached-tensor   since step 0   2 of 4 parameters" in told
    assert "sick.py:14" in told
    assert "code = self.encoder(x).detach()" in told
    assert "detached-tensor" in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--fail-on", "warning"], 3),
        (["--fail-on", "never"], 0),
        ([], 0),
        (["--fail-on", "error", "--ignore", "detached-tensor"], 0),
        (["--fail-on", "error", "--select", "unzeroed-gradient,vanishing-gradient"], 0),
        (["--fail-on", "error", "--every", "1", "--select", "detached-tensor"], 3),
    ],
)
def test_options_decide_what_counts(options: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert watched("sick", *options) == status


def test_every_fixes_which_steps_are_observed(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched("sick", "--every", "4") == 0
    assert "in 12 steps, 3 observed" in capsys.readouterr().err


def test_a_traceback_through_a_backward_holds_no_frame_of_ours(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("import torch\n\ntorch.ones(()).backward()\n")
    bare, watched = python("fails.py", cwd=tmp_path), gradscope_run("fails.py", cwd=tmp_path)
    assert "does not require grad" in bare.stderr
    assert watched.returncode == bare.returncode
    assert watched.stderr.startswith(bare.stderr)
