"""A newcomer's path: README.md from top to bottom, each block and each command as pasted, in a fresh environment.

Python blocks gather in train.py, one after another, and the file runs after each; a block that begins with `# name.py`
is a file of that name. Commands run in the order of the page, those of this project in a fresh clone of it and all
others in the reader's own folder.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from environments import Environment, clean_environment, fresh_clone
from test_documents import INSIDE, README

COMMANDS = ("gradscope", "make", "pip", "pytest", "python", "tensorboard")
SERVERS = {"tensorboard": "http://localhost"}  # they run until they are stopped: what they print when they are ready
IN_THE_CLONE = ("make", "pip install .", "python examples/")
REPLACED = {
    "make test": "make --dry-run test",  # it is what runs this test
    "pip install torch-gradscope": "pip install .",  # an index may not have this version
    "NAME": "vanishing-gradient",
}
FENCED = re.compile(rf"```(?P<language>\w*)\n(?P<text>{INSIDE})```", re.DOTALL)
INLINE = re.compile(rf"`(?P<command>(?:{'|'.join(COMMANDS)}) [^`\n]+)`")
PIECE = re.compile(f"{FENCED.pattern}|{INLINE.pattern}", re.DOTALL)


class Newcomer:
    """A reader with a fresh environment, a fresh clone and a folder for the own programs."""

    def __init__(self, folder: Path) -> None:
        self.environment: Environment = clean_environment(folder / "environment")
        self.clone = fresh_clone(folder / "clone")
        self.own = folder / "own"
        self.own.mkdir()
        clean_environment(self.clone / ".venv")  # so that make downloads nothing either

    def paste(self, code: str) -> str:
        """Save a Python block, and run it unless it has a file of its own."""
        if named := re.match(r"# (\w+\.py)\n", code):
            (self.own / named[1]).write_text(code, encoding="utf-8")
            return ""
        with (self.own / "train.py").open("a", encoding="utf-8") as file:
            file.write(f"{code}\n")
        return self.environment.run("python train.py", self.own)

    def type(self, command: str) -> str:
        """Run a command to its end, or a server until it is ready."""
        for shown, real in REPLACED.items():
            command = command.replace(shown, real)
        folder = self.clone if command.startswith(IN_THE_CLONE) else self.own
        ready = SERVERS.get(shlex.split(command)[0])
        if ready:
            return self.serve(command, folder, ready)
        return self.environment.run(command, folder, PIP_NO_BUILD_ISOLATION="0", MPLBACKEND="agg")

    def serve(self, command: str, folder: Path, ready: str) -> str:
        """What a server has printed when it is ready; it is stopped then."""
        log = folder / "server.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                shlex.split(command, comments=True),
                cwd=folder,
                env=self.environment.variables(),
                stdout=output,
                stderr=output,
            )
        end = monotonic() + 120
        while ready not in log.read_text() and server.poll() is None and monotonic() < end:
            sleep(0.1)
        server.terminate()
        server.wait()
        assert ready in log.read_text(), f"`{command}` did not start:\n{log.read_text()}"
        return log.read_text()


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """What a reader would paste, in the order of the page: ("python", a block) or ("command", a line)."""
    for found in PIECE.finditer(text):
        if found["command"]:
            yield "command", found["command"]
        elif found["language"] == "python":
            yield "python", found["text"]
        elif not found["language"]:
            yield from (("command", line) for line in found["text"].splitlines() if line)


def walk(text: str, newcomer: Newcomer) -> dict[str, str]:
    """Do all that a page says; what each command has printed."""
    said: dict[str, str] = {}
    for kind, piece in pieces(text):
        if kind == "python":
            newcomer.paste(piece)
        else:
            said[piece.split("#")[0].strip()] = newcomer.type(piece)
    return said


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    return Newcomer(tmp_path_factory.mktemp("newcomer"))


def test_the_readme_works_from_top_to_bottom(newcomer: Newcomer) -> None:
    said = walk(README.read_text(encoding="utf-8"), newcomer)
    assert next(iter(said)) == "pip install .", "a reader installs before anything else"
    assert {command.split()[0] for command in said} == set(COMMANDS), "README.md shows every way to begin"
    assert "unzeroed-gradient" in said["gradscope run train.py"]
    assert "1 passed" in said["pytest --gradscope=error"]
    assert "healthy" in said["make demo"]
    assert "detached-tensor" in said["python examples/cut_graph.py"]


def test_a_command_that_fails_would_be_noticed(newcomer: Newcomer) -> None:
    with pytest.raises(AssertionError, match="status 2"):
        walk("Run `gradscope explain no-such-analyzer`.", newcomer)
    with pytest.raises(AssertionError, match="NameError"):
        newcomer.environment.run("python -c nonsense", newcomer.own)
    assert list(pieces("`make it`, `x`\n\n```\npip a\n```\n```python\nx\n```\n```text\ny\n```\n")) == [
        ("command", "make it"),
        ("command", "pip a"),
        ("python", "x\n"),
    ]
