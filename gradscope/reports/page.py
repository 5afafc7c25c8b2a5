"""An analyzer as a page of Markdown: what `gradscope explain` prints and docs/analyzers/ holds."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields

from gradscope.analyzer import Analyzer


def summary(analyzer: type[Analyzer]) -> str:
    """The disease in one line: the first of the docstring."""
    return _text(analyzer).partition("\n")[0]


def page(analyzer: type[Analyzer]) -> str:
    """Name, severity, docstring and thresholds; ends with a newline."""
    head = [f"# {analyzer.name}", f"Severity: {analyzer.severity}"]
    return "\n\n".join([*head, _fenced(_text(analyzer)), *_thresholds(analyzer)]) + "\n"


def _text(analyzer: type[Analyzer]) -> str:
    return inspect.cleandoc(analyzer.__doc__ or "")


def _fenced(text: str) -> str:
    return re.sub(r"^>>> .*(?:\n.+)*", r"```python\n\g<0>\n```", text, flags=re.MULTILINE)


def _thresholds(analyzer: type[Analyzer]) -> Iterator[str]:
    lines = [
        f"- `{field.name}` = {field.default} {field.metadata.get('unit', '')}: {field.metadata.get('reason', '')}"
        for field in fields(analyzer)
    ]
    if lines:
        yield "## Thresholds"
        yield "\n".join(lines)
