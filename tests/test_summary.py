"""Several models' reports as one: a cause is told once, with the models that have it."""

import json
from dataclasses import replace
from math import inf, isnan, nan

from gradscope.findings import Finding, Report, Severity
from gradscope.reports.html import page
from gradscope.reports.json import dumps
from gradscope.summary import Summary, mean_cost
from gradscope.traces import Location

LINE = Location("train.py", 7, "", "optimizer.step()", 0, 16)
CAUSE = Finding("unzeroed-gradient", Severity.ERROR, 1, "used twice", "4 gradients", "zero them", location=LINE)
OTHER = Finding("vanishing-gradient", Severity.WARNING, 3, "it fades", "1e-9", "normalise", sites=("a.weight",))
NASTY = Finding("<b>", Severity.NOTE, 0, "</pre><script>alert(1)</script>", "\x1b[2J&\udcff", "'\"", sites=("<i>",))


def report(*findings: Finding, steps: int = 10) -> Report:
    return Report(findings, steps=steps, observed=5, cost=0.01)


def test_a_single_model_reads_as_its_report() -> None:
    assert str(Summary({"Net": report(CAUSE)})) == str(report(CAUSE))


def test_a_cause_in_several_models_is_told_once() -> None:
    text = str(Summary({"G": report(CAUSE), "D": report(OTHER, CAUSE), "E": report()}))
    assert text.count("unzeroed-gradient") == 1
    assert "         model: G, D\n" in text
    assert "         model: D\n" in text
    assert text.index("unzeroed-gradient") < text.index("vanishing-gradient")
    assert text.splitlines()[-1] == "gradscope: E: no findings in 10 steps, 5 observed; cost 1.0 % of the time."


def test_many_models_are_summed_up() -> None:
    text = str(Summary({f"Net#{i}": report() for i in range(108)}))
    assert text.count("\n") == 8
    assert text.endswith("gradscope: and 100 more models, 100 of them healthy, in 1000 steps.")


def test_models_that_were_not_trained_are_not_told_of() -> None:
    assert (
        str(Summary({"Net": Report()}))
        == "gradscope: nothing was trained: no optimizer of torch.optim made a step, and no weights were moved by hand."
    )
    assert str(Summary(notes=("Net: the program watches it",))) == (
        "not watched: Net: the program watches it\ngradscope: nothing was watched."
    )


def test_severity_decides() -> None:
    summary = Summary({"Net": report(OTHER)})
    assert summary.reaches(Severity.WARNING)
    assert not summary.reaches(Severity.ERROR)
    assert not summary.reaches(None)


def test_what_is_known_elsewhere_is_left_out() -> None:
    summary = Summary({"G": report(CAUSE), "D": report(CAUSE, OTHER)})
    assert list(summary.without([("unzeroed-gradient", "train.py:7", "")]).reports) == ["D"]


def test_json_has_the_findings_of_all_and_each_model_s_report() -> None:
    made = json.loads(dumps(Summary({"G": report(CAUSE), "D": report(CAUSE, OTHER)}, ("x",))))
    assert [(f["analyzer"], f["models"]) for f in made["findings"]] == [
        ("unzeroed-gradient", ["G", "D"]),
        ("vanishing-gradient", ["D"]),
    ]
    assert (made["steps"], made["observed"], made["notes"]) == (20, 10, ["x"])
    assert made["models"]["D"]["steps"] == 10


def test_costs_are_averaged_over_the_steps_whose_cost_is_known() -> None:
    unknown = replace(report(), cost=nan)
    known = [replace(report(), cost=0.25), replace(report(steps=30), cost=0.75)]
    assert mean_cost([*known, unknown, replace(report(), cost=inf)]) == 0.625
    assert isnan(mean_cost([unknown]))
    assert mean_cost([]) == 0.0
    assert json.loads(dumps(Summary({"G": report(), "D": unknown})))["cost"] == 0.01
    assert json.loads(dumps(Summary({"G": unknown, "D": unknown})))["cost"] is None


def test_the_cost_of_a_single_model_is_not_rounded() -> None:
    rounded = 0.4095103108317416
    assert rounded * 3 / 3 != rounded
    assert mean_cost([replace(report(steps=3), cost=rounded)]) == rounded


def test_a_page_is_inert_whatever_the_program_is_called() -> None:
    made = page(Summary({"<u>": report(NASTY)}), "</title><script>")
    assert "<script>" not in made
    assert "<b>" not in made
    assert "<i>" not in made
    assert "\x1b" not in made
    made.encode("utf-8")


def test_a_notebook_shows_the_same_words_as_a_terminal() -> None:
    for shown in (CAUSE, report(CAUSE), Summary({"Net": report(CAUSE)})):
        html = shown._repr_html_()
        assert html.startswith("<pre")
        assert "optimizer.step()" in html
    assert "&lt;/pre&gt;&lt;script&gt;" in NASTY._repr_html_()
