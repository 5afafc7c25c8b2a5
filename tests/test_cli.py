"""The command line: what each command prints, its exit status, and what it does without."""

import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch
from torch import nn

from gradscope import dashboard
from gradscope.analyzer import SECTIONS
from gradscope.catalogue import known
from gradscope.cli import main
from gradscope.errors import NothingStored
from gradscope.running.names import check
from gradscope.scope import watch
from gradscope.settings import Settings

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "gradscope: the following arguments are required: COMMAND (see gradscope --help)\n"),
        (["report"], "gradscope report: the following arguments are required: LOGDIR (see gradscope report --help)\n"),
        (["completion", "cmd"], "gradscope completion: argument shell: invalid choice: 'cmd'"),
        (["trian"], "gradscope: argument COMMAND: invalid choice: 'trian'"),
    ],
)
def test_what_cannot_be_understood_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(message)
    assert told.count("\n") == 1


def test_as_a_module_it_keeps_the_exit_status() -> None:
    command = [sys.executable, "-m", "gradscope"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("gradscope 0.")
    assert subprocess.run([*command, "explain", "?"], capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [["analyzers"], ["explain", "dead-units"], ["report", "."], ["completion", "bash"], ["dashboard", "nowhere"]],
)
def test_no_other_command_than_run_imports_torch(arguments: list[str], tmp_path: Path) -> None:
    code = f"import sys; from gradscope.cli import main; main({arguments!r}); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_names_are_checked_without_the_catalogue() -> None:
    code = (
        "import sys; from gradscope.running.names import check; from gradscope.settings import Settings; "
        f"check(Settings(ignore={tuple(NAMES)!r})); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    check(Settings(ignore=tuple(NAMES)))


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, logdir=tmp_path):
        for _ in range(3):
            model(torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
    return tmp_path


def test_report_tells_what_a_run_has_left(logdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(logdir)]) == 0
    told = capsys.readouterr().out
    assert "ERROR    unzeroed-gradient   since step 1" in told
    assert "optimizer.step()\n             ^^^^^^^^^^^^^^^^\n" in told
    assert told.endswith("gradscope: 1 error in 3 steps, 3 observed.\n")


def test_report_writes_a_page(logdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(logdir), "--html", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == ""
    assert "unzeroed-gradient" in (tmp_path / "page.html").read_text("utf-8")
    assert main(["report", str(logdir), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_report_of_nothing_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "nothing of gradscope is stored" in capsys.readouterr().err


def test_the_dashboard_answers_at_its_link_until_it_is_interrupted(logdir: Path) -> None:
    command = [sys.executable, "-m", "gradscope", "dashboard", str(logdir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        told = server.stdout.readline()
        assert told.startswith(f"TensorBoard shows {logdir} at http://")
        link = told.partition(" at ")[2].split()[0]
        with urlopen(f"{link}data/runs") as answer:  # noqa: S310  our own server
            assert b"gradscope" in answer.read()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_the_dashboard_of_no_folder_says_so() -> None:
    with pytest.raises(NothingStored, match="there is no folder"):
        dashboard.serve("no/such/folder")


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete"), ("zsh", "#compdef gradscope"), ("fish", "complete")])
def test_completion_knows_every_command(shell: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert word in script
    for name in ("run", "report", "analyzers", "explain", "dashboard", "fail-on", "logdir"):
        assert name in script
