"""Reports as plain data and back: what JSON, event files and other processes hold of them.

`VERSION` grows when a key is renamed or removed.
"""

import math
from collections.abc import Mapping
from typing import Any

from gradscope.findings import Finding, Report, Severity
from gradscope.summary import Summary, mean_cost
from gradscope.traces import Location

VERSION = 1


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain dicts, lists, strings and numbers.

    A cost that is not finite becomes None, because JSON has no word for it.
    """
    return {
        "findings": [_finding(finding) for finding in report.findings],
        "steps": report.steps,
        "observed": report.observed,
        "lately": report.lately,
        "cost": _number(report.cost),
        "notes": list(report.notes),
        "version": VERSION,
    }


def summary_to_dict(summary: Summary) -> dict[str, Any]:
    """As `to_dict`, of all models together; each finding names its `models`, which have their own reports below."""
    reports = summary.trained
    return {
        "findings": [{**_finding(finding), "models": list(names)} for finding, names in summary.findings],
        "steps": sum(report.steps for report in reports.values()),
        "observed": sum(report.observed for report in reports.values()),
        "cost": _number(mean_cost(reports.values())),
        "notes": list(summary.notes),
        "models": {name: to_dict(report) for name, report in reports.items()},
        "version": VERSION,
    }


def from_dict(data: Mapping[str, Any]) -> Report:
    """The report that `to_dict` has made plain; a cost of None was not finite, or is not known.

    Raises:
        ValueError: it is something else.
    """
    try:
        return Report(
            tuple(_read(finding) for finding in data["findings"]),
            steps=int(data["steps"]),
            observed=int(data["observed"]),
            lately=int(data["lately"]),
            cost=math.nan if data["cost"] is None else float(data["cost"]),
            notes=tuple(map(str, data["notes"])),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"this is no report of gradscope in JSON: {error!r}") from error


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _read(data: Mapping[str, Any]) -> Finding:
    return Finding(
        **{name: str(data[name]) for name in ("analyzer", "message", "evidence", "why", "fix", "scope", "cause")},
        severity=Severity(data["severity"]),
        step=int(data["step"]),
        sites=tuple(map(str, data["sites"])),
        location=_location(data),
        consequences=tuple(map(str, data["consequences"])),
        table=tuple(tuple(map(str, row)) for row in data["table"]),
    )


def _location(data: Mapping[str, Any]) -> Location | None:
    if data["location"] is None:
        return None
    file, _, line = str(data["location"]).rpartition(":")
    column, end = data["columns"] or (0, 0)
    return Location(file, int(line), "", str(data["source"] or ""), int(column), int(end))


def _finding(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        "analyzer": finding.analyzer,
        "severity": finding.severity.value,
        "step": finding.step,
        "sites": list(finding.sites),
        "location": str(place) if place else None,
        "source": place.source if place and place.source else None,
        "columns": [place.column, place.end] if place and place.end else None,
        "message": finding.message,
        "evidence": finding.evidence,
        "why": finding.why,
        "fix": finding.fix,
        "scope": finding.scope,
        "cause": finding.cause,
        "consequences": list(finding.consequences),
        "table": [list(row) for row in finding.table],
    }
