"""What was concluded: findings and the report that holds them. Frozen data, rendered as plain text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from html import escape
from math import isfinite
from typing import TypeAlias

from gradscope.excerpt import excerpt
from gradscope.records import ROOT
from gradscope.traces import Location


class Severity(StrEnum):
    """`error`: a contract is broken. `warning`: statistics say so. `note`: needs the user's intent."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for the most important."""
        return list(Severity).index(self)


class Role(StrEnum):
    """What a piece of a report's text is, so that a terminal can colour it."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NAME = "name"
    PLACE = "place"
    SOURCE = "source"
    TEXT = "text"
    FIX = "fix"


Line: TypeAlias = tuple[tuple[Role, str], ...]

COLOURS = {  # readable on white and on black
    Role.ERROR: "#d32f2f;font-weight:bold",
    Role.WARNING: "#b07d00;font-weight:bold",
    Role.NOTE: "#3b82f6",
    Role.NAME: "inherit;font-weight:bold",
    Role.PLACE: "#0891b2",
    Role.SOURCE: "#808080",
    Role.FIX: "#2e8b57",
}

INDENT = " " * 9
DEEPER = " " * 13


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause.

    Attributes:
        analyzer: name of the analyzer, which is the name of the disease.
        severity: how sure and how bad.
        step: the first step that shows it, 0-based.
        sites: full names of the modules or parameters it concerns, in forward order.
        message: what is wrong, in one sentence.
        evidence: what was measured, against which limit.
        why: why that matters, in one sentence.
        fix: what to do, in one sentence.
        scope: how much of the model it concerns, as in "26 of 26 parameters".
        location: the user's line, when it is known.
        cause: tells causes of one analyzer apart; findings with the same one are the same finding.
        consequences: what followed from it, folded into this finding.
        table: rows of cells that belong to the evidence, the first one the heading.
    """

    analyzer: str
    severity: Severity
    step: int
    message: str
    evidence: str
    fix: str
    why: str = ""
    sites: tuple[str, ...] = ()
    scope: str = ""
    location: Location | None = None
    cause: str = ""
    consequences: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()

    @property
    def where(self) -> str:
        """How much it concerns: `scope`, or the sites themselves when they are few."""
        return self.scope or summary(tuple(site if site == ROOT else repr(site) for site in self.sites))

    def followed_by(self, other: "Finding") -> "Finding":
        """This finding with another one folded in as its consequence; it is then at least as severe."""
        text = f"{other.analyzer} at step {other.step}: {other.message}"
        severity = min(self.severity, other.severity, key=lambda severity: severity.rank)
        return replace(self, severity=severity, consequences=(*self.consequences, text))

    def lines(self) -> Iterator[Line]:
        """The block that a report shows, line by line."""
        head = ((Role(self.severity), f"{self.severity.upper():<9}"), (Role.NAME, self.analyzer))
        yield (*head, (Role.TEXT, f"   since step {self.step}"), (Role.PLACE, f"   {self.where}".rstrip()))
        place = f"{self.location}  " if self.location else ""
        yield ((Role.TEXT, INDENT), (Role.PLACE, place), (Role.TEXT, self.message))
        for text in excerpt(self.location):
            yield ((Role.TEXT, DEEPER), (Role.SOURCE, text))
        yield ((Role.TEXT, f"{INDENT}measured: {self.evidence}"),)
        for text in _aligned(self.table):
            yield ((Role.TEXT, DEEPER), (Role.TEXT, text))
        if self.why:
            yield ((Role.TEXT, f"{INDENT}why: {self.why}"),)
        for consequence in self.consequences:
            yield ((Role.TEXT, f"{INDENT}then: {consequence}"),)
        yield ((Role.FIX, f"{INDENT}fix: {self.fix}"),)

    def __str__(self) -> str:
        return plain(self.lines())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return markup(self.lines())


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, most important first, and how they were come by.

    Attributes:
        findings: sorted by severity, then by step.
        steps: how many steps ran, of which `observed` were measured.
        lately: after the first, densely observed steps, one step in so many was observed; 0 when none was.
        cost: share of the time that measuring took, 0.02 for 2 %; the first, densely observed steps left out
            when there are later ones.
        notes: what could not be measured or judged, and why.
    """

    findings: tuple[Finding, ...] = ()
    steps: int = 0
    observed: int = 0
    lately: int = 1
    cost: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """True when no finding is an error or a warning."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    def lines(self) -> Iterator[Line]:
        """The whole report, line by line."""
        for finding in self.findings:
            yield from finding.lines()
            yield ()
        for note in self.notes:
            yield ((Role.NOTE, f"not measured: {note}"),)
        yield ((Role.TEXT, self.verdict),)

    @property
    def verdict(self) -> str:
        """The last line: how many findings, how much was watched, what it cost."""
        if not self.steps and not self.findings:
            return "gradscope saw no training step: no forward and backward of this model ran while it was watched."
        counts = [(s, sum(f.severity is s for f in self.findings)) for s in Severity]
        found = ", ".join(f"{n} {s}{'s' * (n > 1)}" for s, n in counts if n) or "no findings"
        if not self.steps:
            return f"gradscope: {found}; the run ended in its first step."
        rarity = {0: ", none lately", 1: ""}.get(self.lately, f", lately 1 step in {self.lately}")
        steps = f"{self.steps} step{'s' * (self.steps != 1)}, {self.observed} observed{rarity}"
        cost = f"; cost {100 * self.cost:.1f} % of the time" if isfinite(self.cost) else ""
        return f"gradscope: {found} in {steps}{cost}."

    def __str__(self) -> str:
        return plain(self.lines())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return markup(self.lines())


def plain(lines: Iterator[Line]) -> str:
    """Lines as text without colour."""
    return "\n".join("".join(text for _, text in line).rstrip() for line in lines)


def markup(lines: Iterable[Line]) -> str:
    """Lines as a block of HTML; whatever comes from the user's program is escaped."""
    body = "\n".join("".join(_span(role, text) for role, text in line) for line in lines)
    return f'<pre style="white-space:pre-wrap">{body}</pre>'


def _span(role: Role, text: str) -> str:
    """A coloured piece; HTML forbids most control characters, even escaped."""
    safe = escape("".join(c if c in "\t\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text))
    return f'<span style="color:{COLOURS[role]}">{safe}</span>' if role in COLOURS else safe


def _aligned(table: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """Rows as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        yield "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))])


def summary(names: tuple[str, ...], most: int = 3) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
