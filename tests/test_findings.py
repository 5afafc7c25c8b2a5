from dataclasses import replace

import pytest

from gradscope.findings import Finding, Report, Severity
from gradscope.traces import Location

FINDING = Finding("detached-tensor", Severity.ERROR, 0, "the graph is cut", "no gradient", "remove it", why="so")


def block(finding: Finding) -> list[str]:
    return str(finding).splitlines()


def at(source: str, piece: str = "") -> list[str]:
    """The lines between the message and what was measured."""
    start = source.index(piece) if piece else 0
    place = Location("net.py", 7, "forward", source, start, start + len(piece))
    lines = block(replace(FINDING, location=place))
    return lines[2 : lines.index("         measured: no gradient")]


def marked(source: str, piece: str) -> str:
    """What stands above the caret."""
    text, caret = at(source, piece)
    return text[len(caret) - len(caret.lstrip()) : len(caret)]


def test_a_finding_without_source_or_table_has_neither() -> None:
    lines = block(replace(FINDING, location=Location("net.py", 7)))
    assert lines[1:3] == ["         net.py:7  the graph is cut", "         measured: no gradient"]
    assert len(lines) == 5


def test_the_source_line_stands_below_its_place() -> None:
    assert at("h = h / s", "h / s") == ["             h = h / s", "                 ^^^^^"]


def test_there_is_no_caret_where_the_columns_are_not_known() -> None:
    assert at("h = h.detach()") == ["             h = h.detach()"]


@pytest.mark.parametrize(
    ("source", "piece", "expected"),
    [
        ("h = self.fc(x).detach()", "self.fc(x).detach()", ".detach()"),
        ("h = f(x).data", "f(x).data", ".data"),
        ("h = a[0].sqrt().mean()", "a[0].sqrt().mean()", ".mean()"),
        ("y = torch.sqrt(x)", "torch.sqrt(x)", "torch.sqrt(x)"),
        ("y = h.sqrt()", "h.sqrt()", "h.sqrt()"),
        ("y = a - b.T", "a - b.T", "a - b.T"),
        ("größe = f('ä').log()", "f('ä').log()", ".log()"),
        ("return F.mse_loss(a,", "F.mse_loss(a,", "F.mse_loss(a,"),
    ],
)
def test_the_caret_is_under_what_matters(source: str, piece: str, expected: str) -> None:
    assert marked(source, piece) == expected


def test_a_tab_in_the_source_does_not_shift_the_caret() -> None:
    assert marked("y =\th / s", "h / s") == "h / s"


@pytest.mark.parametrize("before", [0, 30, 90, 200])
@pytest.mark.parametrize("after", [0, 30, 90, 200])
def test_long_lines_are_cut_around_the_caret(before: int, after: int) -> None:
    source = f"{'a' * before} = h / s # {'b' * after}"
    text, _ = at(source, "h / s")
    assert len(text) <= 13 + 100
    assert marked(source, "h / s") == "h / s"


def test_a_table_is_aligned_below_what_was_measured() -> None:
    table = (("site", "min", "max"), ("fc1", "-1.5", "2"), ("encoder.layer", "nan", "nan"))
    lines = block(replace(FINDING, table=table))
    start = lines.index("         measured: no gradient") + 1
    assert lines[start : start + 4] == [
        "             site            min  max",
        "             fc1            -1.5    2",
        "             encoder.layer   nan  nan",
        "         why: so",
    ]


@pytest.mark.parametrize(
    ("lately", "rarity"),
    [(1, "22 observed;"), (12, "22 observed, lately 1 step in 12;"), (0, "22 observed, none lately;")],
)
def test_the_verdict_says_how_rarely_steps_are_observed_lately(lately: int, rarity: str) -> None:
    verdict = Report(steps=400, observed=22, lately=lately, cost=0.017).verdict
    assert verdict == f"gradscope: no findings in 400 steps, {rarity} cost 1.7 % of the time."
