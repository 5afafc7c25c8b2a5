"""The zoo is in order, and a part of it is visited: `make zoo` visits all of it."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.zoo.__main__ import PAGE
from benchmarks.zoo.expectations import ZOO, Expectation, Program, programs
from benchmarks.zoo.page import page
from benchmarks.zoo.results import Results
from benchmarks.zoo.verdicts import unexpected, verdicts
from benchmarks.zoo.visits import Visit, visit
from gradscope.catalogue import known
from gradscope.findings import Finding, Severity
from gradscope.traces import Location

ALL = programs()
EVERY = 17  # of so many healthy programs one is visited


def sick_ones() -> list[Program]:
    """For each analyzer that there is, the first of its programs that has one fault only."""
    first: dict[str, Program] = {}
    for program in ALL:
        if len(program.expected) == 1:
            first.setdefault(program.expected[0].analyzer, program)
    return [program for name, program in first.items() if name in known()]


def test_there_are_a_hundred_of_each() -> None:
    assert sum(program.healthy for program in ALL) >= 100
    assert sum(not program.healthy for program in ALL) >= 100


def test_sick_programs_lie_where_their_fault_says() -> None:
    for program in ALL:
        folder = program.file.relative_to(ZOO).parts[0]
        assert folder == ("healthy" if program.healthy else "sick"), program.name
        if len(program.expected) == 1:
            assert program.file.parent.name == program.expected[0].analyzer.replace("-", "_"), program.name


def test_each_analyzer_has_a_sick_program() -> None:
    missing = known().keys() - {expectation.analyzer for program in ALL for expectation in program.expected}
    assert not missing


def style(text: str) -> str:
    """A script, a script with modules of its own, or one with a class or a function that does the training."""
    bases = re.findall(r"^class \w+(?:\((.*)\))?:", text, re.MULTILINE)
    if "def fit(" in text or any(not re.search(r"Module|Function|Optimizer|Linear", base) for base in bases):
        return "framework"
    return "module" if any("Module" in base for base in bases) else "script"


def test_each_fault_comes_in_three_styles() -> None:
    styles: dict[str, set[str]] = {}
    for program in ALL:
        if len(program.expected) == 1:
            styles.setdefault(program.expected[0].analyzer, set()).add(style(program.file.read_text("utf-8")))
    assert not {name: found for name, found in styles.items() if len(found) < 3}


def test_twins_are_healthy() -> None:
    twins = [program for program in ALL if program.twin is not None]
    assert twins
    assert not [program.name for program in twins if program.twin not in {p.file for p in ALL if p.healthy}]


def test_each_program_says_what_it_is_and_can_be_seeded() -> None:
    for program in ALL:
        text = program.file.read_text("utf-8")
        assert '\n"""' in text, program.name
        assert 'os.environ.get("SEED"' in text, program.name
        assert 10 <= text.count("\n") <= 70, program.name


def test_the_page_names_them_all() -> None:
    text = PAGE.read_text("utf-8")
    assert not [program.name for program in ALL if program.file.stem not in text], "make zoo"


@pytest.mark.parametrize("program", sick_ones(), ids=lambda program: program.name)
def test_a_sick_program_is_told_as_expected(program: Program) -> None:
    visited = visit(program.file, seed=0)
    assert not [verdict.wrong for verdict in verdicts(program, visited) if verdict.wrong]
    assert unexpected(program, visited) is None


@pytest.mark.parametrize(
    "program", [program for program in ALL if program.healthy][::EVERY], ids=lambda program: program.name
)
def test_a_healthy_program_raises_no_alarm(program: Program) -> None:
    assert unexpected(program, visit(program.file, seed=0)) is None


def header(tmp_path: Path, text: str) -> Program:
    (tmp_path / "train.py").write_text(text + "\npass\n" * 20, encoding="utf-8")
    (program,) = programs(tmp_path)
    return program


def test_a_header_is_read(tmp_path: Path) -> None:
    program = header(
        tmp_path, "# expect: dead-units at train.py:12 in net.*,head since step 3\n# expect: broken-tie by step 9"
    )
    assert program.expected == (
        Expectation("dead-units", 12, ("net.*", "head"), 3, 4),
        Expectation("broken-tie", first=0, last=9),
    )
    assert header(tmp_path, "# expect: nothing").healthy


@pytest.mark.parametrize(
    "text",
    [
        "# expect:",
        "# expect: Dead",
        "# expect: dead-units at other.py:3",
        "# expect: dead-units at train.py:400",
        "x = 1",
    ],
)
def test_nonsense_in_a_header_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"train\.py"):
        header(tmp_path, text)


def found(analyzer: str, line: int = 12, step: int = 0, sites: tuple[str, ...] = ("net.0",)) -> Finding:
    place = Location("train.py", line)
    return Finding(analyzer, Severity.ERROR, step, "it is sick", "0", "heal it", sites=sites, location=place)


@pytest.mark.parametrize(
    ("findings", "right"),
    [
        ((found("dead-units"),), (True, True, True, True, True)),
        ((found("dead-units", step=1),), (True, True, True, True, True)),
        ((found("dead-units", step=2),), (True, True, True, True, False)),
        ((found("dead-units", line=13),), (True, True, True, False, True)),
        ((found("dead-units", sites=("net.0", "head")),), (True, True, False, True, True)),
        ((found("broken-tie"), found("dead-units")), (True, False, True, True, True)),
        ((found("broken-tie"),), (True, False, False, False, False)),
        ((), (False, False, False, False, False)),
    ],
)
def test_findings_are_judged(findings: tuple[Finding, ...], right: tuple[bool, ...]) -> None:
    program = Program(ZOO / "sick" / "train.py", (Expectation("dead-units", 12, ("net.*",), 0, 1),))
    (verdict,) = verdicts(program, Visit(0, findings, steps=3))
    assert (verdict.detected, verdict.first, verdict.site, verdict.line, verdict.step) == right
    assert bool(verdict.wrong) is not all(right)
    others = unexpected(program, Visit(0, findings, steps=3))
    assert (others is not None) is any(finding.analyzer == "broken-tie" for finding in findings)


def test_alarms_and_failures_of_healthy_programs_are_told() -> None:
    program = Program(ZOO / "healthy" / "train.py", ())
    assert unexpected(program, Visit(0, steps=3)) is None
    assert unexpected(program, Visit(0, (found("dead-units"),), steps=3)) is not None
    assert unexpected(program, Visit(0, steps=3, error="ValueError: no")) is not None
    assert unexpected(program, Visit(0)) is not None


def test_the_page_tells_misses_and_alarms() -> None:
    sick, healthy = next(p for p in ALL if not p.healthy), next(p for p in ALL if p.healthy)
    results = Results(seeds=1)
    assert results.add(sick, Visit(0, steps=3))
    assert results.add(healthy, Visit(0, (found("dead-units"),), steps=3))
    assert not results.as_expected
    text = page(results)
    assert f"`{sick.name}`: {sick.expected[0].analyzer}: found nothing" in text
    assert f"`{healthy.name}`: error dead-units: it is sick" in text
    assert "| **all** | 1 | 0 / 1 |" in text


def test_a_visit_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEED", raising=False)
    program = tmp_path / "train.py"
    program.write_text(
        "import os, sys, torch\nsys.argv.append(os.environ['SEED'])\ntorch.set_default_dtype(torch.float64)\n"
        "print('loud')\nraise SystemExit(3)\n"
    )
    before = sys.argv, sys.modules["__main__"], torch.get_default_dtype(), torch.get_num_threads()
    visited = visit(program, seed=7)
    assert visited.error == "SystemExit: 3"
    assert (sys.argv, sys.modules["__main__"], torch.get_default_dtype(), torch.get_num_threads()) == before
    assert "SEED" not in os.environ
