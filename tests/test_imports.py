"""What must not be imported: torch by those who only look, the package root by anyone inside."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradscope

HEAVY = {"matplotlib", "pandas", "rich", "tensorboard", "torch"}
PACKAGE = Path(gradscope.__file__).parent


def heavy_after(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter holds after running this code."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return HEAVY.intersection(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import gradscope",
        "import gradscope.cli",
        "import gradscope.testing",
        "import gradscope.engine",
        "from gradscope.catalogue import known; known()",
        "from gradscope import Analyzer, Finding, Recording, Report",
    ],
)
def test_looking_loads_nothing_heavy(code: str) -> None:
    assert heavy_after(code) == set()


def test_something_heavy_would_be_noticed() -> None:
    assert heavy_after("import rich") == {"rich"}
    assert "torch" in heavy_after("from gradscope import watch")


def imports_of_the_root(source: str) -> Iterator[int]:
    """The lines that import the package root or a name from it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="gradscope", lineno=line):
                yield line
            case ast.Import(names=names, lineno=line) if any(alias.name == "gradscope" for alias in names):
                yield line


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nobody_inside_imports_the_root(path: Path) -> None:
    assert list(imports_of_the_root(path.read_text(encoding="utf-8"))) == []


def test_an_import_of_the_root_would_be_noticed() -> None:
    source = "import gradscope.records\nimport gradscope\ndef late():\n    from gradscope import watch\n"
    assert sorted(imports_of_the_root(source)) == [2, 4]
