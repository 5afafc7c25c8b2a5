"""A report as JSON, for other programs. `VERSION` grows when a key is renamed or removed."""

import json
import math
from typing import Any

from gradscope.findings import Finding, Report

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
        "cost": report.cost if math.isfinite(report.cost) else None,
        "notes": list(report.notes),
        "version": VERSION,
    }


def dumps(report: Report, indent: int | None = 2) -> str:
    """The report as strict JSON in ASCII: no NaN, no Infinity, whatever the user's names hold is escaped."""
    return json.dumps(to_dict(report), indent=indent, allow_nan=False)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "analyzer": finding.analyzer,
        "severity": finding.severity.value,
        "step": finding.step,
        "sites": list(finding.sites),
        "location": str(finding.location) if finding.location else None,
        "source": finding.location.source if finding.location and finding.location.source else None,
        "message": finding.message,
        "evidence": finding.evidence,
        "why": finding.why,
        "fix": finding.fix,
        "scope": finding.scope,
        "consequences": list(finding.consequences),
        "table": [list(row) for row in finding.table],
    }
