"""Shows a report or a finding: coloured in a terminal, plain text anywhere else."""

import re
import sys
from collections.abc import Iterator
from typing import Protocol, TextIO

from rich.console import Console
from rich.text import Text

from gradscope.findings import Line, Role

STYLES = {
    Role.ERROR: "bold red",
    Role.WARNING: "bold yellow",
    Role.NOTE: "bright_blue",
    Role.NAME: "bold",
    Role.PLACE: "cyan",
    Role.SOURCE: "bright_black",
    Role.TEXT: "",
    Role.FIX: "green",
}
NARROWEST = 20
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Shown(Protocol):
    """A report, a finding, a summary of several models."""

    def lines(self) -> Iterator[Line]:
        """Its text, line by line."""


def show(report: Shown, file: TextIO | None = None) -> None:
    """Write a report or a finding to `file`, which is standard output by default.

    A terminal gets colours, and lines longer than it is wide continue under their own beginning.
    Anything else gets exactly `str(report)` and a newline.
    """
    stream = sys.stdout if file is None else file
    if stream.isatty():
        _show_coloured(report, Console(file=stream, force_terminal=True, force_jupyter=False))
    else:
        stream.write(f"{report}\n")


def _show_coloured(report: Shown, console: Console) -> None:
    for line in report.lines():
        console.print(_wrapped(line, console), soft_wrap=True)


def _wrapped(line: Line, console: Console) -> Text:
    text = Text.assemble(*((_printable(piece), STYLES[role]) for role, piece in line))
    hang = _hang(line)
    rows = text[hang:].wrap(console, max(console.width - hang, NARROWEST))
    for row in rows:
        row.rstrip()
    return text[:hang] + Text("\n" + " " * hang).join(rows)


def _hang(line: Line) -> int:
    """How far the second row of a long line is indented: to where the text after its first piece begins."""
    if not line:
        return 0
    first = line[0][1]
    return len(first) if len(line) > 1 else len(first) - len(first.lstrip())


def _printable(text: str) -> str:
    """Text without control characters, which could move the cursor or recolour the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
