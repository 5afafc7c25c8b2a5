"""The contract of every analyzer: one file, its page, a case it fires on and a case it is silent on, its tests."""

import ast
import doctest
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import pytest

import gradscope.analyzers
from docs.generate import own
from gradscope.analyzer import SECTIONS, Analyzer, Request
from gradscope.findings import Finding, Severity
from gradscope.records import Recording

STEMS = sorted(path.stem for path in Path(gradscope.analyzers.__path__[0]).glob("*.py") if path.stem != "__init__")
TESTS = Path(__file__).parent / "analyzers"


def complaints(cls: type[Analyzer], tests: Path = TESTS) -> list[str]:
    """What this analyzer lacks, in words."""
    checks = (about_name(cls), about_class(cls), about_thresholds(cls), about_sections(cls), about_cases(cls))
    return [text for check in (*checks, about_tests(cls, tests)) for text in check]


def about_name(cls: type[Analyzer]) -> Iterator[str]:
    stem = cls.__module__.rpartition(".")[2]
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.name):
        yield f"its name {cls.name!r} is not kebab-case: words of small letters, joined by hyphens"
    if cls.name.replace("-", "_") != stem:
        yield f"its name is {cls.name!r} but its file is {stem}.py"


def about_class(cls: type[Analyzer]) -> Iterator[str]:
    if "__dataclass_params__" not in vars(cls):
        yield "it is no frozen dataclass: decorate it with @dataclass(frozen=True)"
    if not isinstance(getattr(cls, "severity", None), Severity):
        yield "it has no severity: set the class attribute `severity`"


def about_thresholds(cls: type[Analyzer]) -> Iterator[str]:
    for threshold in fields(cls):
        for key in ("unit", "reason"):
            if not threshold.metadata.get(key):
                yield f"its threshold {threshold.name!r} has no {key}: field(default=..., metadata={{{key!r}: ...}})"


def sections(cls: type[Analyzer]) -> dict[str, str]:
    """The docstring's sections by title, in their order; the summary above them has the title ""."""
    text = inspect.cleandoc(cls.__doc__ or "")
    summary, *parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {"": summary} | dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))


def about_sections(cls: type[Analyzer]) -> Iterator[str]:
    found = sections(cls)
    yield from (f"its docstring says nothing under '## {title}'" for title in SECTIONS if not found.get(title))
    extra = [title for title in found if title and title not in SECTIONS]
    yield from (f"its docstring has the section '## {title}', which pages do not have" for title in extra)
    if [title for title in found if title in SECTIONS] != [title for title in SECTIONS if title in found]:
        yield f"its docstring's sections are out of order, which is: {', '.join(SECTIONS)}"


def about_cases(cls: type[Analyzer]) -> Iterator[str]:
    """Run the docstring's examples, section by section in one namespace, and watch what the analyzer yields."""
    namespace = vars(sys.modules[cls.__module__]) | {cls.__name__: cls}
    for title, text in sections(cls).items():
        runs, failures = run_examples(cls, text, namespace)
        yield from (f"an example under '## {title}' fails:\n{failure}" for failure in failures)
        if title in ("Fires on", "Silent on") and not runs:
            yield f"no example under '## {title}' runs it"
        if title == "Fires on" and runs and not any(runs):
            yield "the examples under '## Fires on' yield no finding"
        if title == "Silent on" and any(runs):
            yield f"the examples under '## Silent on' yield a finding: {max(runs, key=len)[0].message}"


def run_examples(cls: type[Analyzer], text: str, namespace: dict[str, object]) -> tuple[list[list[Finding]], list[str]]:
    """The findings of each run of the analyzer in these examples, and what failed; names go into the namespace."""
    runs: list[list[Finding]] = []
    failures: list[str] = []
    analyze = cls.analyze

    def listening(self: Analyzer, recording: Recording) -> Iterator[Finding | Request]:
        yielded = list(analyze(self, recording))
        runs.append([item for item in yielded if isinstance(item, Finding)])
        yield from yielded

    examples = doctest.DocTestParser().get_doctest(text, namespace, cls.name, None, None)
    with patch.object(cls, "analyze", listening):
        doctest.DocTestRunner().run(examples, out=failures.append, clear_globs=False)
    namespace |= examples.globs
    return runs, failures


def about_tests(cls: type[Analyzer], folder: Path) -> Iterator[str]:
    path = folder / f"test_{cls.name.replace('-', '_')}.py"
    if not path.exists():
        yield f"tests/analyzers/{path.name} is missing"
        return
    functions = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
    for word in ("fires", "silent"):
        if not any(function.name.startswith("test_") and word in function.name for function in functions):
            yield f"tests/analyzers/{path.name} has no test with {word!r} in its name"


def test_there_are_analyzers() -> None:
    assert STEMS, "gradscope/analyzers/ holds no analyzer"


@pytest.mark.parametrize("stem", STEMS)
def test_an_analyzer_keeps_the_contract(stem: str) -> None:
    found = [cls for cls in own() if cls.__module__ == f"gradscope.analyzers.{stem}"]
    assert len(found) == 1, f"gradscope/analyzers/{stem}.py defines {len(found)} analyzers instead of one"
    lacking = complaints(found[0])
    assert not lacking, "\n".join([f"{found[0].name} does not keep the contract of analyzers:", *lacking])


def bad_by_its_looks() -> type[Analyzer]:
    class Bad2(Analyzer):
        """Bad in its name, its class and its docstring.

        ## Silent on
        Nothing.

        ## Parting words
        Nothing.

        ## Fires on
        >>> Bad2.name
        'good'
        """

        def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
            yield from ()

    return Bad2


def bad_by_its_cases() -> type[Analyzer]:
    @dataclass(frozen=True)
    class TestCatalogue(Analyzer):
        """Its name fits this file, its sections are there; its cases, thresholds and tests are bad.

        ## What it means
        Text.

        ## Why it matters
        Text.

        ## How it is measured
        Text.

        ## What it is not
        Text.

        ## How to fix it
        Text.

        ## Fires on
        >>> unfinished, finished = Recording(), Recording(complete=True)
        >>> list(TestCatalogue().analyze(unfinished))
        []

        ## Silent on
        >>> [found.message for found in TestCatalogue().analyze(finished)]
        ['over']

        ## Sources
        Text.
        """

        severity: ClassVar[Severity] = Severity.NOTE
        first: float = 1.0
        second: float = field(default=2.0, metadata={"unit": "decades"})
        third: float = field(default=3.0, metadata={"unit": "decades", "reason": "measured"})

        def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
            if recording.complete:
                yield self.finding(step=0, message="over", evidence="none", fix="none")

    return TestCatalogue


def test_bad_looks_are_named(tmp_path: Path) -> None:
    lacking = complaints(bad_by_its_looks(), tmp_path)
    assert [text.partition("\n")[0] for text in lacking] == [
        "its name 'bad2' is not kebab-case: words of small letters, joined by hyphens",
        "its name is 'bad2' but its file is test_catalogue.py",
        "it is no frozen dataclass: decorate it with @dataclass(frozen=True)",
        "it has no severity: set the class attribute `severity`",
        *(f"its docstring says nothing under '## {title}'" for title in SECTIONS if not title.endswith(" on")),
        "its docstring has the section '## Parting words', which pages do not have",
        f"its docstring's sections are out of order, which is: {', '.join(SECTIONS)}",
        "no example under '## Silent on' runs it",
        "an example under '## Fires on' fails:",
        "no example under '## Fires on' runs it",
        "tests/analyzers/test_bad2.py is missing",
    ]


def test_bad_cases_are_named(tmp_path: Path) -> None:
    (tmp_path / "test_test_catalogue.py").write_text("def test_that_it_fires(): ...\ndef silent(): ...\n")
    assert complaints(bad_by_its_cases(), tmp_path) == [
        "its threshold 'first' has no unit: field(default=..., metadata={'unit': ...})",
        "its threshold 'first' has no reason: field(default=..., metadata={'reason': ...})",
        "its threshold 'second' has no reason: field(default=..., metadata={'reason': ...})",
        "the examples under '## Fires on' yield no finding",
        "the examples under '## Silent on' yield a finding: over",
        "tests/analyzers/test_test_catalogue.py has no test with 'silent' in its name",
    ]
