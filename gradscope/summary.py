"""What was found in several models, told once: a cause that shows in many of them is one finding."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan

from gradscope.findings import INDENT, Finding, Line, Report, Role, Severity, markup, plain, summary

MOST_VERDICTS = 8
UNTRAINED = "nothing was trained: no optimizer of torch.optim made a step, and no weights were moved by hand"

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Summary:
    """The reports of all models of a program, by name, and what was not watched.

    Attributes:
        reports: a report for each model that was watched.
        notes: what was not watched, and why.
    """

    reports: Mapping[str, Report] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def trained(self) -> Mapping[str, Report]:
        """The reports that have something to say."""
        return {name: report for name, report in self.reports.items() if report.steps or report.findings}

    @property
    def findings(self) -> tuple[tuple[Finding, tuple[str, ...]], ...]:
        """Each cause once, most important first, and the models in which it shows."""
        found: dict[Key, tuple[Finding, list[str]]] = {}
        for name, report in self.trained.items():
            for finding in report.findings:
                found.setdefault(key(finding), (finding, []))[1].append(name)
        ordered = sorted(found.values(), key=lambda entry: (entry[0].severity.rank, entry[0].step))
        return tuple((finding, tuple(dict.fromkeys(names))) for finding, names in ordered)

    def reaches(self, severity: Severity | None) -> bool:
        """Whether a finding is this severe or more; never for None."""
        return severity is not None and any(finding.severity.rank <= severity.rank for finding, _ in self.findings)

    def without(self, known: Iterable[Key]) -> "Summary":
        """Only the models with a finding that is not among the known ones."""
        told = set(known)
        new = {
            name: report
            for name, report in self.trained.items()
            if any(key(finding) not in told for finding in report.findings)
        }
        return Summary(new)

    def lines(self) -> Iterator[Line]:
        """The whole text, line by line: for a single model, what its report says."""
        several = len(self.trained) > 1
        for finding, names in self.findings:
            yield from finding.lines()
            if several:
                yield ((Role.PLACE, f"{INDENT}model: {summary(names)}"),)
            yield ()
        for name, report in self.trained.items():
            for note in report.notes:
                yield ((Role.NOTE, f"not measured: {f'{name}: ' if several else ''}{note}"),)
        for note in self.notes:
            yield ((Role.NOTE, f"not watched: {note}"),)
        for text in self._verdicts():
            yield ((Role.TEXT, text),)

    def _verdicts(self) -> Iterator[str]:
        if not self.trained:
            yield f"gradscope: {'nothing was watched' if self.notes else UNTRAINED}."
            return
        shown = list(self.trained.items())
        if len(shown) == 1:
            yield shown[0][1].verdict
            return
        for name, report in shown[:MOST_VERDICTS]:
            yield f"gradscope: {name}: {report.verdict.removeprefix('gradscope: ')}"
        if rest := shown[MOST_VERDICTS:]:
            steps = sum(report.steps for _, report in rest)
            healthy = sum(report.healthy for _, report in rest)
            yield f"gradscope: and {len(rest)} more models, {healthy} of them healthy, in {steps} steps."

    def __str__(self) -> str:
        return plain(self.lines())

    def _repr_html_(self) -> str:
        return markup(self.lines())


def key(finding: Finding) -> Key:
    """What two models' findings have in common when they have the same cause."""
    place = str(finding.location) if finding.location else "\n".join(finding.sites)
    return finding.analyzer, place, finding.message if finding.location is None else ""


def mean_cost(reports: Collection[Report]) -> float:
    """The share of the time that measuring took over all steps for which it is known; NaN if it is known of none."""
    known = [report for report in reports if isfinite(report.cost)]
    if reports and not known:
        return nan
    if len(known) == 1:  # as it is: a product with its steps may be rounded
        return known[0].cost
    return sum(report.cost * report.steps for report in known) / max(1, sum(report.steps for report in known))
