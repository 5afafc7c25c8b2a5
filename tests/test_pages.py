"""The pages of the analyzers: up to date, and every way of not being so is noticed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from docs import generate
from gradscope.analyzer import Analyzer, Request
from gradscope.findings import Finding, Severity
from gradscope.records import Recording
from gradscope.reports.page import page, summary


def test_the_pages_are_up_to_date() -> None:
    assert generate.drift(generate.FOLDER) == [], "run `make docs`"


def test_each_kind_of_drift_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "FOLDER", tmp_path / "pages")
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (generate.FOLDER / "README.md").write_text("mine")
    (generate.FOLDER / "unzeroed-gradient.md").rename(generate.FOLDER / "forgotten.md")
    assert generate.drift(generate.FOLDER) == [
        "unzeroed-gradient.md is missing",
        "forgotten.md belongs to no analyzer",
        "README.md is out of date",
    ]
    generate.write(generate.FOLDER)
    assert generate.drift(generate.FOLDER) == []


@dataclass(frozen=True)
class MadeUp(Analyzer):
    """Made up.

    ## Fires on
    >>> 1 + 1
    2
    >>> 2 + 2
    4

    That was all.
    """

    severity: ClassVar[Severity] = Severity.NOTE
    limit: float = field(default=0.5, metadata={"unit": "decades", "reason": "it is made up."})

    def analyze(self, recording: Recording) -> Iterator[Finding | Request]:
        yield from ()


MADE_UP_PAGE = """\
# made-up

Severity: note

Made up.

## Fires on
```python
>>> 1 + 1
2
>>> 2 + 2
4
```

That was all.

## Thresholds

- `limit` = 0.5 decades: it is made up.
"""


def test_a_page_has_all_that_the_class_says() -> None:
    assert summary(MadeUp) == "Made up."
    assert page(MadeUp) == MADE_UP_PAGE
