"""The guides in docs/ run: their Python blocks in order, each page in one namespace, with the outputs that they show.

A block may use what earlier blocks of its page have made. What cannot run is marked with `<!-- not run: why -->`.
With the environment variable GRADSCOPE_UPDATE=1, the outputs are written anew.
"""

import io
import linecache
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from test_documents import INSIDE, ROOT, comparable

GUIDES = ("quickstart", "how-it-works", "faq", "migration", "tensorboard", "configuration", "write-an-analyzer")
BLOCK = re.compile(
    rf"(?P<mark><!-- not run: [^>]+ -->\n)?```python\n(?P<code>{INSIDE})```(?:(?P<gap>\s+```text\n){INSIDE}```)?",
    re.DOTALL,
)


class Page:
    """A page whose blocks are pasted into one file, train.py, and run as they come."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "train.py"
        self._code = ""
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def printed_by(self, code: str) -> str:
        """What this block prints, where the blocks before it have run."""
        self._code += f"{code}\n"
        self._file.write_text(self._code, encoding="utf-8")
        linecache.checkcache(str(self._file))
        above = self._code.count("\n") - code.count("\n") - 1
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * above + code, str(self._file), "exec"), self._names)  # noqa: S102  our own guides
        return printed.getvalue().strip("\n") + "\n"

    def block(self, found: re.Match[str]) -> str:
        """A Python block with the real output in the ```text block right under it, if it has one."""
        if found["mark"] or ">>>" in found["code"]:
            return found[0]
        printed = self.printed_by(found["code"])
        return f"```python\n{found['code']}```{found['gap']}{printed}```" if found["gap"] else found[0]


def refreshed(text: str, folder: Path) -> str:
    """The text with the real output under every Python block that shows one."""
    return BLOCK.sub(Page(folder).block, text)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_shows_what_its_code_prints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / f"{name}.md"
    shown = page.read_text(encoding="utf-8")
    real = refreshed(shown, tmp_path)
    if os.environ.get("GRADSCOPE_UPDATE") == "1" and comparable(shown) != comparable(real):
        page.write_text(real, encoding="utf-8")
        return
    assert comparable(shown) == comparable(real), "write the outputs anew: GRADSCOPE_UPDATE=1 make test"


def test_a_wrong_output_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    skipped = "<!-- not run: a sample -->\n```python\nx = y\n```\n\n"
    page = f"```python\nx = 1\n```\n\n{skipped}```python\nprint(x)\n```\n\n```text\n{{}}\n```\n"
    assert refreshed(page.format(2), tmp_path) == page.format(1)


def test_a_failing_block_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NameError, match="y"):
        refreshed("```python\nx = y\n```\n", tmp_path)
