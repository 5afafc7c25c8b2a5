import json
import math

import pytest

from gradscope.findings import Finding, Report, Severity
from gradscope.reports.json import dumps, to_dict
from gradscope.traces import Location

FINDING = Finding(
    analyzer="detached-tensor",
    severity=Severity.ERROR,
    step=2,
    message="the graph is cut",
    evidence="no gradient reached 4 parameters",
    fix="remove .detach()",
    why="what lies before the cut does not learn",
    sites=("fc1.weight", "fc1.bias"),
    scope="2 of 4 parameters",
    location=Location("train.py", 7, "", "h = h.detach()", 4, 14),
    table=(("site", "min"), ("fc1", "0")),
    cause="fc2",
    consequences=("zero-gradient at step 3: nothing arrives",),
)
REPORT = Report((FINDING,), steps=10, observed=8, lately=3, cost=0.01, notes=("encoder.7 is sparse",))


def test_every_part_of_a_report_has_its_key() -> None:
    assert to_dict(REPORT) == {
        "findings": [
            {
                "analyzer": "detached-tensor",
                "severity": "error",
                "step": 2,
                "sites": ["fc1.weight", "fc1.bias"],
                "location": "train.py:7",
                "source": "h = h.detach()",
                "columns": [4, 14],
                "message": "the graph is cut",
                "evidence": "no gradient reached 4 parameters",
                "why": "what lies before the cut does not learn",
                "fix": "remove .detach()",
                "scope": "2 of 4 parameters",
                "cause": "fc2",
                "consequences": ["zero-gradient at step 3: nothing arrives"],
                "table": [["site", "min"], ["fc1", "0"]],
            }
        ],
        "steps": 10,
        "observed": 8,
        "lately": 3,
        "cost": 0.01,
        "notes": ["encoder.7 is sparse"],
        "version": 1,
    }


def test_values_are_plain() -> None:
    assert type(to_dict(REPORT)["findings"][0]["severity"]) is str


def test_a_finding_without_a_line_has_no_location() -> None:
    finding = Finding("dead-units", Severity.WARNING, 0, "a", "b", "c")
    assert to_dict(Report((finding,)))["findings"][0]["location"] is None


@pytest.mark.parametrize("report", [REPORT, Report()])
def test_text_reads_back_as_the_dict(report: Report) -> None:
    assert json.loads(dumps(report)) == to_dict(report)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_not_finite_is_null(cost: float) -> None:
    assert '"cost": null' in dumps(Report(cost=cost))


def test_names_in_any_script_survive_in_ascii() -> None:
    finding = Finding("dead-units", Severity.WARNING, 0, 'quote " and \u5c64 and \udcff', "</script>", "c")
    text = dumps(Report((finding,)))
    assert text.isascii()
    assert json.loads(text)["findings"][0]["message"] == finding.message


def test_indent_is_the_callers_choice() -> None:
    assert "\n" not in dumps(REPORT, indent=None)
    assert dumps(REPORT).startswith('{\n  "findings"')
