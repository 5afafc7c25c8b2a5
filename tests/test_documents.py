"""README.md shows what its code really prints, and the examples in docs/ run.

With the environment variable GRADSCOPE_UPDATE=1, the outputs in README.md are written anew.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
INSIDE = r"(?:(?!```).)*"
SHOWN = re.compile(rf"(?P<head>```python\n(?P<code>{INSIDE})```\s+```text\n){INSIDE}```", re.DOTALL)
PRINTED = re.compile(rf"(?P<head>```\npython (?P<script>examples/\w+\.py)\n```\s+```text\n){INSIDE}```", re.DOTALL)
PYTHON = re.compile(rf"^```python\n({INSIDE})```$", re.DOTALL | re.MULTILINE)


def output(script: str, folder: Path) -> str:
    """What a script prints when it is run in a folder."""
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip("\n") + "\n"


def output_of(code: str, folder: Path) -> str:
    """What this code prints when it is run as train.py in a folder of its own."""
    (folder / "train.py").write_text(code, encoding="utf-8")
    return output("train.py", folder)


def refreshed(text: str, folder: Path) -> str:
    """The document with the real output in every ```text block right under a program or an example's name."""
    text = SHOWN.sub(lambda found: f"{found['head']}{output_of(found['code'], folder)}```", text)
    return PRINTED.sub(lambda found: f"{found['head']}{output(found['script'], ROOT)}```", text)


def comparable(text: str) -> str:
    """The document without what differs from run to run: how much was observed depends on what it cost."""
    rarity = r"(, lately 1 step in \d+|, none lately)?"
    return re.sub(rf"\d+ observed{rarity}; cost \d+\.\d %", "0 observed; cost 0.0 %", text)


def test_the_readme_shows_what_its_code_prints(tmp_path: Path) -> None:
    shown = README.read_text(encoding="utf-8")
    for kind in (SHOWN, PRINTED):
        assert kind.search(shown), f"README.md has no output under {kind.pattern}"
    real = refreshed(shown, tmp_path)
    if os.environ.get("GRADSCOPE_UPDATE") == "1" and comparable(shown) != comparable(real):
        README.write_text(real, encoding="utf-8")
        return
    assert comparable(shown) == comparable(real), "write the outputs anew: GRADSCOPE_UPDATE=1 make test"


def test_a_wrong_output_would_be_noticed(tmp_path: Path) -> None:
    document = (
        "```python\nmodel = ...\n```\n\n```python\nprint('9 observed; cost 1.2 %', 1 + 1)\n```\n\n```text\n{}\n```\n"
    )
    real = document.format("9 observed; cost 1.2 % 2")
    assert refreshed(document.format("9 observed; cost 1.2 % 3"), tmp_path) == real
    assert comparable(document.format("8 observed; cost 3.4 % 2")) == comparable(real)
    assert comparable(document.format("8 observed, lately 1 step in 12; cost 3.4 % 2")) == comparable(real)


def python_of(text: str) -> str:
    """The Python blocks of a document, each line where it stands in the document, all other lines empty."""
    return "".join(f"\n{part}" if i % 2 else "\n" * part.count("\n") for i, part in enumerate(PYTHON.split(text)))


def failures(text: str, name: str) -> list[str]:
    """The examples of a document that do not give what it says, run in order and in one namespace."""
    found: list[str] = []
    examples = doctest.DocTestParser().get_doctest(python_of(text), {}, name, name, 0)
    doctest.DocTestRunner().run(examples, out=found.append)
    return found


@pytest.mark.parametrize("path", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_the_examples_of_a_document_run(path: Path) -> None:
    assert failures(path.read_text(encoding="utf-8"), path.name) == []


def test_a_failing_example_would_be_noticed() -> None:
    (failure,) = failures("Some text.\n\n```python\n>>> x = 1\n>>> x\n1\n>>> x\n2\n```\n\nx is 3.\n", "sample.md")
    assert 'File "sample.md", line 7' in failure
