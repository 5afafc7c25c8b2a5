import io
import re

import pytest

from gradscope.findings import Finding, Report, Severity
from gradscope.reports.terminal import show
from gradscope.traces import Location

FINDING = Finding(
    analyzer="unzeroed-gradient",
    severity=Severity.ERROR,
    step=1,
    message="optimizer.step() used gradients that the step before had already used",
    evidence="26 gradients were neither None nor zero when step 1's backward began",
    why="every step then repeats a part of all steps before it",
    fix="call optimizer.zero_grad() once per step, before loss.backward()",
    scope="26 of 26 parameters",
    location=Location("train.py", 41),
    consequences=("exploding-gradient at step 9: gradients grow 12 times a step",),
)
WARNING = Finding("vanishing-gradient", Severity.WARNING, 3, "gradients fade", "1e-12", "use ReLU", sites=("fc1",))
REPORT = Report((FINDING, WARNING), steps=40, observed=22, cost=0.013, notes=("encoder.7 is sparse",))
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal()


def uncoloured(text: str) -> str:
    return ANSI.sub("", text)


@pytest.mark.parametrize("shown", [REPORT, FINDING, Report()])
def test_piped_output_is_the_plain_report_and_a_newline(shown: Report | Finding) -> None:
    piped = io.StringIO()
    show(shown, piped)
    assert piped.getvalue() == f"{shown}\n"


def test_colours_are_never_forced_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    piped = io.StringIO()
    show(REPORT, piped)
    assert piped.getvalue() == f"{REPORT}\n"


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    assert capsys.readouterr().out == f"{REPORT}\n"


@pytest.mark.parametrize("shown", [REPORT, FINDING])
def test_a_wide_terminal_shows_the_same_text_in_colour(shown: Report | Finding, terminal: Terminal) -> None:
    show(shown, terminal)
    assert uncoloured(terminal.getvalue()) == f"{shown}\n"
    assert "\x1b[1;31mERROR" in terminal.getvalue()


def test_a_terminal_without_colours_gets_none(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    show(REPORT, terminal)
    assert "\x1b" not in terminal.getvalue()
    assert terminal.getvalue().split() == str(REPORT).split()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_long_lines_continue_below_their_own_beginning(
    width: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show(FINDING, terminal)
    head, *rest = uncoloured(terminal.getvalue()).splitlines()
    assert head.startswith("ERROR    unzeroed-gradient")
    assert all(re.match(r" {9}\S", line) for line in rest)
    assert all(len(line) <= width and line == line.rstrip() for line in (head, *rest))
    assert " ".join([head, *rest]).split() == str(FINDING).split()


def test_lines_of_a_message_are_indented_alike(terminal: Terminal) -> None:
    show(Finding("shape-mismatch", Severity.ERROR, 0, "first\nsecond", "x", "y"), terminal)
    assert "         first\n         second\n" in uncoloured(terminal.getvalue())


@pytest.mark.parametrize("text", ["[bold]layer[/bold]", "[red]", "[/]", ":smile:", "a[0]", "[link=http://x]y[/link]"])
def test_text_of_the_users_program_is_not_markup(text: str, terminal: Terminal) -> None:
    show(Finding("dead-units", Severity.WARNING, 0, text, text, text, sites=(text,)), terminal)
    assert uncoloured(terminal.getvalue()).count(text) == 4


def test_control_characters_of_the_users_program_do_not_reach_the_terminal(terminal: Terminal) -> None:
    show(Finding("dead-units", Severity.WARNING, 0, "\x1b[2Jgone\r\x07\x9b1m", "x", "y"), terminal)
    shown = uncoloured(terminal.getvalue())
    assert r"\x1b[2Jgone\x0d\x07\x9b1m" in shown
    assert not set(shown) & set("\x1b\r\x07\x9b")


def test_each_finding_is_one_block(terminal: Terminal) -> None:
    show(REPORT, terminal)
    blocks = uncoloured(terminal.getvalue()).split("\n\n")
    assert [block.split()[1] for block in blocks[:2]] == ["unzeroed-gradient", "vanishing-gradient"]
    assert blocks[2].startswith("not measured: encoder.7 is sparse\ngradscope: 1 error, 1 warning")


def test_control_characters_of_the_source_do_not_reach_the_terminal(terminal: Terminal) -> None:
    place = Location("net.py", 7, "forward", "h = f('\x1b[2J\x07') / s")
    show(Finding("dead-units", Severity.WARNING, 0, "x", "y", "z", location=place), terminal)
    shown = uncoloured(terminal.getvalue())
    assert r"h = f('\x1b[2J\x07') / s" in shown
    assert not set(shown) & set("\x1b\x07")
