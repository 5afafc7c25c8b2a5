"""A report as JSON, for other programs."""

import json

from gradscope.exchange import summary_to_dict, to_dict
from gradscope.findings import Report
from gradscope.summary import Summary

__all__ = ["dumps", "to_dict"]


def dumps(report: Report | Summary, indent: int | None = 2) -> str:
    """The report as strict JSON in ASCII: no NaN, no Infinity, whatever the user's names hold is escaped."""
    made = summary_to_dict(report) if isinstance(report, Summary) else to_dict(report)
    return json.dumps(made, indent=indent, allow_nan=False)
