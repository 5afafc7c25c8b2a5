"""docs/pytest.md shows what its commands really print, on the files that it shows.

With the environment variable GRADSCOPE_UPDATE=1, the outputs are written anew.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch._dynamo

import gradscope.integrations.pytest_watching

pytest_plugins = ["pytester"]

# Runs in this process forget what they import, and torch cannot be imported twice.
LOADED_FOR_GOOD = (torch._dynamo, gradscope.integrations.pytest_watching)

PAGE = Path(__file__).parents[2] / "docs" / "pytest.md"
INSIDE = r"(?:(?!```).)*"
BLOCK = re.compile(
    rf"```python\n# (?P<file>\w+\.py)\n(?P<code>{INSIDE})```"
    rf"|(?P<command>```\n(?P<lines>{INSIDE})```)(?P<gap>\n\n```text\n){INSIDE}```"
    rf"|```json\n(?P<json>{INSIDE})```",
    re.DOTALL,
)
SNAPSHOT_LINES = 8


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.did = 0

    def block(self, found: re.Match[str]) -> str:
        """A block of the page as it should be."""
        self.did += 1
        if found["file"]:
            (self._pytester.path / found["file"]).write_text(found["code"], encoding="utf-8")
            return found[0]
        if found["command"]:
            printed = "".join(map(self._printed, found["lines"].splitlines()))
            return f"{found['command']}{found['gap']}{printed}```"
        (written,) = self._pytester.path.glob("__gradscope__/*/*.json")
        first = written.read_text(encoding="utf-8").splitlines()[:SNAPSHOT_LINES]
        return "\n".join(["```json", *first, "    ...", "```"])

    def _printed(self, line: str) -> str:
        command, *arguments = shlex.split(line)
        if command == "pytest":
            result = self._pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
            return "\n".join(result.outlines).strip("\n") + "\n"
        program = [sys.executable, *arguments] if command == "python" else [command, *arguments]
        done = subprocess.run(program, cwd=self._pytester.path, capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).lstrip("\n")


def comparable(text: str) -> str:
    """The page without what differs from run to run and from machine to machine."""
    text = re.sub(r"in \d+\.\d+s", "in 0.00s", text)
    text = re.sub(r"cost \d+\.\d %", "cost 0.0 %", text)
    text = re.sub(r" +[-+]?\d+\.\d+%", " 0%", text)
    return re.sub(r" *-?\d\.\d+(e[-+]\d+)?", " 0.0", text)


def test_the_page_shows_what_its_commands_print(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    pytester.syspathinsert()
    shown = PAGE.read_text(encoding="utf-8")
    reader = Reader(pytester)
    real = BLOCK.sub(reader.block, shown).replace(f"{pytester.path}/", "")
    assert reader.did == len(re.findall("```", shown)) // 2 - shown.count("```text")
    if os.environ.get("GRADSCOPE_UPDATE") == "1" and comparable(shown) != comparable(real):
        PAGE.write_text(real, encoding="utf-8")
        return
    assert comparable(shown) == comparable(real), "write the outputs anew: GRADSCOPE_UPDATE=1 make test"


def test_a_wrong_output_would_be_noticed(pytester: pytest.Pytester) -> None:
    page = "```python\n# test_it.py\ndef test_it():\n    pass\n```\n\n```\npytest -q\n```\n\n```text\n{}```\n"
    (real,) = re.findall("```text\n(.*?)```", BLOCK.sub(Reader(pytester).block, page.format("2 passed\n")), re.DOTALL)
    assert "1 passed in" in real
    assert comparable(real) == comparable(re.sub(r"in \d\.\d+s", "in 9.99s", real))
    assert comparable(real) != comparable(real.replace("1 passed", "2 passed"))
