"""One line at the bottom of the terminal while the program trains: steps, observed share, cost, findings so far.

The program's output scrolls above it, in a region of the terminal that is one row shorter. So neither its streams nor
what it writes to them is touched.
"""

import os
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gradscope.findings import Report
    from gradscope.watching import Everything

PERIOD = 0.25
FEWEST_ROWS = 4
SAVE, RESTORE = "\x1b7", "\x1b8"
_DUMB = ("", "dumb", "unknown")


class Live:
    """The line. `stream` is a terminal; `show` is called after each step, and mostly has nothing to do."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._due = float("-inf")
        self._rows = 0
        self._process = os.getpid()

    @classmethod
    def on(cls, stream: TextIO | None) -> "Live | None":
        """A line on this stream, if that is a terminal that can show one."""
        able = os.environ.get("TERM", "dumb" if os.name == "posix" else "vt") not in _DUMB
        return cls(stream) if able and stream is not None and stream.isatty() else None

    def show(self, everything: "Everything") -> None:
        """Write the line anew, if it is time."""
        now = monotonic()
        if now < self._due or self._process != os.getpid():
            return
        self._due = now + PERIOD
        size = os.get_terminal_size(self._stream.fileno())
        if size.lines >= FEWEST_ROWS:
            self._write(text_of(everything.glance())[: size.columns - 1], size.lines)

    def close(self) -> None:
        """Take the line away, and give the program's last row back."""
        if self._rows:
            with suppress(OSError, ValueError):
                self._stream.write(f"{SAVE}\x1b[r\x1b[{self._rows};1H\x1b[2K{RESTORE}")
                self._stream.flush()
        self._rows = 0

    def _write(self, text: str, rows: int) -> None:
        region = ""
        if rows != self._rows:  # a first line, or another height: make room below the cursor, then hold the row back
            region = f"\x1bD\x1b[1A{SAVE}\x1b[1;{rows - 1}r{RESTORE}"
            self._rows = rows
        self._stream.write(f"{region}{SAVE}\x1b[{rows};1H\x1b[2K\x1b[7m{text}\x1b[0m{RESTORE}")
        self._stream.flush()


def text_of(report: "Report") -> str:
    """The line for what is known so far."""
    share = 100 * report.observed / max(1, report.steps)
    counts: dict[str, int] = {}
    for finding in report.findings:
        counts[finding.severity.value] = counts.get(finding.severity.value, 0) + 1
    found = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()) or "no findings"
    return f" gradscope  step {report.steps}  observed {share:.0f} %  cost {100 * report.cost:.1f} %  {found} "


def live() -> Live | None:
    """The line on standard error, where the report will be."""
    return Live.on(sys.stderr)
