"""The line at the bottom of a terminal, on a terminal that is emulated; and nothing where there is none."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest
from running.commands import PROGRAMS, environment

from gradscope.findings import Finding, Report, Severity
from gradscope.running import live as live_module
from gradscope.running.live import Live, text_of
from gradscope.watching import Everything

ROWS, COLUMNS = 12, 90

FINDING = Finding("dead-units", Severity.WARNING, 0, "a", "b", "c")
REPORT = Report((FINDING,), steps=40, observed=20, cost=0.0123)
TEXT = "gradscope  step 40  observed 50 %  cost 1.2 %  1 warning"


class Training(Everything):
    def __init__(self) -> None:
        pass

    def glance(self) -> Report:
        return REPORT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def shown(written: str) -> list[str]:
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.Stream(screen).feed(written.replace("\n", "\r\n"))
    return [row.rstrip() for row in screen.display]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live_module, "PERIOD", 0.0)
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((COLUMNS, ROWS)))
    return Terminal()


def line_on(stream: Terminal) -> Live:
    line = Live.on(stream)
    assert line is not None
    return line


@pytest.mark.parametrize("before", [0, 3, ROWS - 1, ROWS, 3 * ROWS])
def test_output_scrolls_above_the_line(before: int, terminal: Terminal) -> None:
    line = line_on(terminal)
    terminal.write("".join(f"before {i}\n" for i in range(before)) + "half ")
    line.show(Training())
    terminal.write("a line\n" + "".join(f"after {i}\n" for i in range(4)) + "prompt> ")
    line.show(Training())
    rows = shown(terminal.getvalue())
    assert rows[-1].strip() == TEXT
    above = [row for row in rows[:-1] if row]
    assert above[-6:] == ["half a line", *[f"after {i}" for i in range(4)], "prompt>"]
    line.close()
    terminal.write("last")
    assert [row for row in shown(terminal.getvalue()) if row][-1] == "prompt> last"


def test_a_terminal_of_another_height_is_followed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    line = line_on(terminal)
    line.show(Training())
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((COLUMNS, 8)))
    line.show(Training())
    assert "\x1b[1;7r" in terminal.getvalue()


def test_a_tiny_terminal_has_no_room(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((COLUMNS, 2)))
    line = line_on(terminal)
    line.show(Training())
    line.close()
    assert terminal.getvalue() == ""


def test_nothing_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert Live.on(Terminal()) is None
    monkeypatch.setenv("TERM", "xterm")
    assert Live.on(io.StringIO()) is None
    assert Live.on(None) is None


def test_the_text_counts_by_severity() -> None:
    assert text_of(REPORT).strip() == TEXT
    assert text_of(Report()).strip() == "gradscope  step 0  observed 0 %  cost 0.0 %  no findings"


def test_a_program_in_a_terminal_prints_the_same_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "gradscope", "run", str(PROGRAMS / "vae.py")]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, env=environment(TERM="xterm", COLUMNS="120")
    )
    os.close(slave)
    read = b""
    while True:
        try:
            read += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(master)
    assert b"gradscope  step " in read
    screen = pyte.Screen(120, 40)
    pyte.ByteStream(screen).feed(read)
    rows = [row.rstrip() for row in screen.display if row.strip()]
    assert [row.split()[0] for row in rows] == ["====>", "sample"] * 3 + ["gradscope:"]
    assert screen.margins is None
