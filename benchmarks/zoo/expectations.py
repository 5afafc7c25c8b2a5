"""What a program in zoo/ says of itself in its first lines. zoo/README.md has the grammar."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ZOO = Path(__file__).parents[2] / "zoo"
NOTHING = "nothing"
GRAMMAR = re.compile(
    r"(?P<analyzer>[a-z]+(?:-[a-z]+)*)"
    r"(?: at (?P<file>[\w.-]+\.py):(?P<line>[1-9]\d*))?"
    r"(?: in (?P<sites>\S+))?"
    r"(?: (?P<bound>since|by) step (?P<step>\d+))?"
)
LATEST = 1  # an exact fault is told on the step it happens, or on the next


@dataclass(frozen=True)
class Expectation:
    """One fault.

    Attributes:
        analyzer: whose finding it is.
        line: the user's line that the finding names; None where there is no such line.
        sites: patterns, of which each site of the finding matches one; none where that is not said.
        first: the earliest step that may be told, and `last` the latest; None where that is not said.
    """

    analyzer: str
    line: int | None = None
    sites: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None

    def is_at(self, sites: tuple[str, ...]) -> bool:
        """Whether these are the sites that were expected."""
        return bool(sites) and all(any(fnmatchcase(site, pattern) for pattern in self.sites) for site in sites)


@dataclass(frozen=True)
class Program:
    """One file of the zoo: what is expected of it, and the healthy program that looks like it, if there is one."""

    file: Path
    expected: tuple[Expectation, ...]
    twin: Path | None = None

    @property
    def name(self) -> str:
        """Its path in the zoo, without the suffix."""
        return self.file.relative_to(ZOO).with_suffix("").as_posix()

    @property
    def healthy(self) -> bool:
        """Whether nothing is to be found."""
        return not self.expected


def programs(folder: Path = ZOO) -> tuple[Program, ...]:
    """All programs, in the order of their names; raises `ValueError` for a header that says nothing, or nonsense."""
    return tuple(_read(file) for file in sorted(folder.rglob("*.py")))


def _read(file: Path) -> Program:
    lines = file.read_text("utf-8").splitlines()
    expected, twin = list[Expectation](), None
    for key, value in _header(lines):
        if key == "twin":
            twin = ZOO / value
        elif value != NOTHING:
            expected.append(_expectation(file, value, len(lines)))
    if not lines or not lines[0].startswith("# expect: "):
        raise ValueError(f"{file}: the first line is no '# expect: ...'")
    return Program(file, tuple(expected), twin)


def _header(lines: list[str]) -> Iterator[tuple[str, str]]:
    """The comments that a file begins with."""
    for line in lines:
        if not line.startswith("# "):
            return
        key, _, value = line.removeprefix("# ").partition(": ")
        yield key, value


def _expectation(file: Path, text: str, length: int) -> Expectation:
    match = GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(f"{file}: {text!r} is no expectation")
    if match["file"] not in (None, file.name):
        raise ValueError(f"{file}: it calls itself {match['file']}")
    line = None if match["line"] is None else int(match["line"])
    if line is not None and line > length:
        raise ValueError(f"{file}: it has no line {line}")
    first = last = None
    if match["step"] is not None:
        step = int(match["step"])
        first, last = (step, step + LATEST) if match["bound"] == "since" else (0, step)
    return Expectation(
        match["analyzer"], line, tuple((match["sites"] or "").split(",")) if match["sites"] else (), first, last
    )
