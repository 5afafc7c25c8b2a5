import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.util.tensor_util import make_ndarray

from gradscope.findings import Finding, Severity
from gradscope.records import Recording, StepEnd
from gradscope.reports.tensorboard import TensorBoardWriter
from gradscope.testing import recording
from gradscope.traces import Location

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # TensorBoard carries an old html5lib
    from tensorboard.plugin_util import markdown_to_safe_html

GROUPS = ("activation/rms", "activation_gradient/rms", "parameter/rms", "parameter_gradient/rms", "update/ratio")
TAGS = {f"{group}/{name}" for group in GROUPS for name in ("median", "p10", "p90", "worst")}
Value = TypeVar("Value")
LAYOUT = "custom_scalars__config__"
FINDING = Finding(
    analyzer="unzeroed-gradient",
    severity=Severity.ERROR,
    step=1,
    message="gradients were used twice",
    evidence="26 gradients",
    fix="call optimizer.zero_grad()",
    scope="26 of 26 parameters",
    location=Location("train.py", 41),
)
HOSTILE = [
    "a|b", r"a\|b", "\\", "a\\", "`x|y`", "`", "<b>x</b>", "<script>alert(1)</script>", "![i](http://x/y.png)",
    "[l](http://x)", "<http://x>", "_x_ __init__", "*a* **b**", "&lt;", "a & b", "first\nsecond", "a\r\nb",
    "# h", "- a",
]  # fmt: skip


class Cells(HTMLParser):
    """The texts of a page's table cells; any tag but those of a table is refused."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        assert tag in ("table", "thead", "tbody", "tr", "th", "td", "br", "p"), f"{tag} {attrs}"
        if tag in ("th", "td"):
            self.inside = True
            self.texts.append("")
        if tag == "br":
            self.texts[-1] += " "

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def everything(sites: int = 5, steps: int = 4, **more: object) -> Recording:
    modules = {f"layers.{i}": 10.0**-i for i in range(sites)}
    parameters = {f"{name}.weight": 1.0 + i for i, name in enumerate(modules)}
    return recording(
        steps=steps,
        activation=modules,
        activation_gradient=modules,
        parameter=parameters,
        parameter_gradient=parameters,
        update=dict.fromkeys(parameters, 0.01),
        **more,  # type: ignore[arg-type]
    )


def written(logdir: Path, *writes: tuple[Recording, tuple[Finding, ...]]) -> EventAccumulator:
    writer = TensorBoardWriter(logdir)
    for made, findings in writes:
        writer.write(made, findings)
    writer.close()
    return events(logdir)


def events(logdir: Path) -> EventAccumulator:
    return EventAccumulator(str(logdir / "gradscope"), {"tensors": 0, "scalars": 0}).Reload()


def tags(found: EventAccumulator) -> set[str]:
    return {*found.Tags()["scalars"], *found.Tags()["tensors"]}


def series(found: EventAccumulator, tag: str) -> dict[int, float]:
    return by_step((event.step, event.value) for event in found.Scalars(tag))


def tables(found: EventAccumulator) -> dict[int, str]:
    return by_step(
        (event.step, make_ndarray(event.tensor_proto).item().decode()) for event in found.Tensors("findings")
    )


def by_step(points: Iterable[tuple[int, Value]]) -> dict[int, Value]:
    listed = list(points)
    steps = [step for step, _ in listed]
    assert steps == sorted(set(steps)), "one point for each step, and steps never go back"
    return dict(listed)


def cells(markdown: str) -> list[str]:
    return Cells(markdown_to_safe_html(markdown)).texts


@pytest.mark.parametrize("sites", [5, 500])
def test_tags_do_not_grow_with_the_model(sites: int, tmp_path: Path) -> None:
    found = written(tmp_path, (everything(sites, steps=2), ()))
    assert tags(found) == TAGS | {"findings", "report", LAYOUT}


def test_scalars_are_quantiles_over_the_sites(tmp_path: Path) -> None:
    found = written(tmp_path, (recording(steps=2, activation={"a": 1.0, "b": [2.0, 4.0], "c": 3.0}), ()))
    assert series(found, "activation/rms/median") == pytest.approx({0: 2.0, 1: 3.0})
    assert series(found, "activation/rms/p10") == pytest.approx({0: 1.2, 1: 1.4})
    assert series(found, "activation/rms/p90") == pytest.approx({0: 2.8, 1: 3.8})


def test_update_ratio_is_per_parameter(tmp_path: Path) -> None:
    made = recording(
        steps=1,
        parameter={"b.weight": 10.0, "a.weight": 1.0, "frozen.weight": 1.0, "new.bias": 0.0},
        update={"a.weight": 0.1, "b.weight": 0.1, "new.bias": 0.1, "lost.weight": 5.0},
    )
    found = written(tmp_path, (made, ()))
    assert series(found, "update/ratio/median") == pytest.approx({0: 0.055})
    assert series(found, "update/ratio/worst") == pytest.approx({0: 0.01})


@pytest.mark.parametrize(
    ("values", "worst"),
    [
        ((1.0, 2.0, 3.0, 100.0), 100.0),
        ((1.0, 2.0, 3.0, 1e-3), 1e-3),
        ((1.0, 2.0, 1e30, 0.0), 0.0),
        ((1.0, 0.0, 0.0, 0.0), 0.0),
        ((0.0, 0.0, 0.0, math.nan), math.nan),
        ((1.0, 0.0, math.nan, 1.0), math.nan),
        ((1.0, 0.0, math.inf, 1.0), math.nan),
        ((1.0, None, 2.0, 2.0), 1.0),
    ],
)
def test_worst_is_furthest_from_the_median(values: tuple[float | None, ...], worst: float, tmp_path: Path) -> None:
    made = recording(steps=1, activation_gradient={f"layer{i}": [value] for i, value in enumerate(values)})
    found = written(tmp_path, (made, ()))
    assert series(found, "activation_gradient/rms/worst")[0] == pytest.approx(worst, nan_ok=True)


def test_quantiles_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    made = recording(steps=2, activation={"a": 1.0, "b": [3.0, math.nan], "c": [math.inf, 3.0]})
    found = written(tmp_path, (made, ()))
    assert series(found, "activation/rms/median") == {0: 2.0, 1: 2.0}


def test_a_step_without_any_finite_value_is_nan(tmp_path: Path) -> None:
    found = written(tmp_path, (recording(steps=1, activation={"a": math.nan}), ()))
    assert math.isnan(series(found, "activation/rms/median")[0])
    assert math.isnan(series(found, "activation/rms/worst")[0])


def test_a_statistic_that_was_not_measured_has_no_points(tmp_path: Path) -> None:
    found = written(tmp_path, (recording(steps=2, activation={"a": [1.0, None]}), ()))
    assert tags(found) == {t for t in TAGS if t.startswith("activation/")} | {"findings", "report", LAYOUT}
    assert series(found, "activation/rms/median") == {0: 1.0}


def test_each_step_is_written_once_however_often_it_is_offered(tmp_path: Path) -> None:
    made = everything(steps=6)
    early = replace(made, steps=made.steps[:3])
    late = replace(made, steps=made.steps[2:])  # a ring has dropped the first steps
    found = written(tmp_path, (early, ()), (early, ()), (late, ()), (late, ()))
    assert list(series(found, "parameter/rms/median")) == [0, 1, 2, 3, 4, 5]


def test_steps_that_were_not_observed_have_no_points(tmp_path: Path) -> None:
    made = everything(steps=3)
    made = replace(made, steps=(made.steps[0], replace(made.steps[1], stored=None), made.steps[2]))
    assert list(series(written(tmp_path, (made, ())), "activation/rms/p10")) == [0, 2]


def test_an_open_step_waits_until_it_is_over(tmp_path: Path) -> None:
    made = everything(steps=3, ends={2: StepEnd.OPEN})
    found = written(tmp_path / "running", (made, ()))
    assert list(series(found, "activation/rms/p90")) == [0, 1]
    found = written(tmp_path / "over", (made, ()), (replace(made, complete=True), ()))
    assert list(series(found, "activation/rms/p90")) == [0, 1, 2]


def test_the_layout_shows_the_median_in_its_band_once(tmp_path: Path) -> None:
    found = written(tmp_path, (everything(), ()), (everything(steps=6), (FINDING,)))
    (event,) = found.Tensors(LAYOUT)
    layout = Layout.FromString(make_ndarray(event.tensor_proto).item())
    charts = [chart for category in layout.category for chart in category.chart]
    assert [chart.title for chart in charts] == list(GROUPS)
    for chart in charts:
        (line,) = chart.margin.series
        assert [line.value, line.lower, line.upper] == [f"{chart.title}/{name}" for name in ("median", "p10", "p90")]


def test_findings_are_one_cumulative_table(tmp_path: Path) -> None:
    second = Finding("dead-units", Severity.WARNING, 3, "units are dead", "x", "use less", sites=("fc1", "fc2"))
    found = written(tmp_path, (everything(), (FINDING,)), (everything(steps=6), (FINDING, second)))
    first_table, last_table = tables(found).values()
    head = ["severity", "analyzer", "since step", "where", "line", "message", "fix"]
    one = ["error", "unzeroed-gradient", "1", "26 of 26 parameters", "train.py:41", FINDING.message, FINDING.fix]
    two = ["warning", "dead-units", "3", second.where, "", "units are dead", "use less"]
    assert cells(first_table)[:14] == head + one
    assert cells(last_table)[:21] == head + one + two


def test_findings_are_written_when_they_change_and_at_the_end(tmp_path: Path) -> None:
    made = everything(steps=6)
    early = replace(made, steps=made.steps[:3])
    over = replace(made, complete=True)
    one = (FINDING,)
    shown = tables(
        written(tmp_path, (early, ()), (early, ()), (made, ()), (made, one), (made, one), (over, one), (over, one))
    )
    assert list(shown) == [2, 5, 6]
    assert [table.startswith("No findings.") for table in shown.values()] == [True, False, False]


def test_findings_that_change_twice_in_one_step_are_two_texts(tmp_path: Path) -> None:
    made = everything(steps=3)
    other = replace(FINDING, step=2)
    shown = tables(written(tmp_path, (made, ()), (made, (FINDING,)), (made, (FINDING, other))))
    assert list(shown) == [2, 3, 4]
    assert cells(shown[4]).count("unzeroed-gradient") == 2


def test_an_empty_recording_is_written_too(tmp_path: Path) -> None:
    assert list(tables(written(tmp_path, (Recording(), ()))).values()) == ["No findings."]


def test_worst_sites_are_named_below_the_findings(tmp_path: Path) -> None:
    made = recording(
        steps=2,
        activation={"a": 1.0, "b": [1.0, 50.0], "c": 1.0},
        activation_gradient={"a": 1.0, "b": math.nan, "c": 0.0},
        parameter={"a.weight": [0.0, 2.0], "b.weight": 2.0, "c.weight": 2.0},
    )
    (table,) = tables(written(tmp_path, (made, ()))).values()
    assert "in step 1" in table
    assert cells(table) == [
        "statistic", "site", "value", "median",
        "activation/rms", "b", "50", "1",
        "activation_gradient/rms", "b", "not finite", "0.5",
        "parameter/rms", "a.weight", "2", "2",
    ]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_the_users_program_is_inert(text: str, tmp_path: Path) -> None:
    finding = Finding("dead-units", Severity.NOTE, 0, text, "x", text, scope=text, location=Location(text, 1))
    made = recording(steps=1, activation={text: 1.0})
    (table,) = tables(written(tmp_path, (made, (finding,)))).values()
    found = ["".join(cell.split()) for cell in cells(table)]
    plain = "".join(text.split())
    assert found[10:14] == [plain, f"{plain}:1", plain, plain]
    assert found[-3] == plain


def test_long_cells_are_broken_into_short_lines(tmp_path: Path) -> None:
    finding = replace(FINDING, message="gradients that an earlier step had used were used again by this one")
    (table,) = tables(written(tmp_path, (Recording(), (finding,)))).values()
    assert max(len(part) for part in re.split(r"<br>|\|", table)) <= 30
    assert finding.message in cells(table)


def test_names_that_are_no_unicode_are_written(tmp_path: Path) -> None:
    finding = replace(FINDING, location=Location("caf\udce9.py", 3))
    (table,) = tables(written(tmp_path, (Recording(), (finding,)))).values()
    assert "caf?.py:3" in table


def test_the_users_own_events_lie_in_another_run(tmp_path: Path) -> None:
    written(tmp_path, (everything(), ()))
    assert [path.name for path in tmp_path.iterdir()] == ["gradscope"]


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    writer = TensorBoardWriter(str(tmp_path))
    writer.close()
    writer.close()
    assert tags(events(tmp_path)) == {LAYOUT}
