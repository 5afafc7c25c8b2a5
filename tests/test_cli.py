"""The command line, in this process, and once as `python -m gradscope`."""

import subprocess
import sys

import pytest

from gradscope.analyzer import SECTIONS
from gradscope.catalogue import known
from gradscope.cli import main

NAMES = list(known())


def test_the_table_has_a_line_for_each_analyzer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyzers"]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [(name, severity) for name, severity, _ in rows] == [(name, cls.severity) for name, cls in known().items()]


@pytest.mark.parametrize("name", NAMES)
def test_explain_prints_every_section(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"# {name}"
    assert [line for line in lines if line.removeprefix("## ") in SECTIONS] == [f"## {title}" for title in SECTIONS]


def test_an_unknown_name_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "vanishing-gradients"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "gradscope: no analyzer is called 'vanishing-gradients': did you mean 'vanishing-gradient'?\n"
    )


def test_without_a_command_the_usage_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert "usage: gradscope" in capsys.readouterr().err


def test_as_a_module_it_keeps_the_exit_status() -> None:
    command = [sys.executable, "-m", "gradscope"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("gradscope 0.")
    assert subprocess.run([*command, "explain", "?"], capture_output=True, check=False).returncode == 2
