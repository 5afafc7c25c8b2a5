import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gradscope.errors import NotRecorded
from gradscope.records import Kind, Recording, Statistic
from gradscope.reports.plots import gradient_flow, history
from gradscope.testing import recording

BLACK, MAGENTA, GREY = "#000000", "#ff00ff", "#c8c8c8"
CHAIN = recording(steps=3, activation_gradient={"fc1": [1e-4, 2e-4, 3e-4], "fc2": 1e-2, "fc3": [1.0, 2.0, 4.0]})


def drawn(axes: Axes) -> Axes:
    """The axes after a drawing, in which warnings are errors."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return axes


def line(axes: Axes, label: str) -> NDArray[np.float64]:
    """The points of the line that the legend calls so, of shape (points, 2)."""
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return np.asarray(found.get_xydata(), np.float64)


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def names(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_xticklabels()]


def colours(axes: Axes) -> list[list[str]]:
    """The colour of each cell of a heat map."""
    (mesh,) = [each for each in drawn(axes).collections if isinstance(each, QuadMesh)]
    values = mesh.get_array()
    assert values is not None
    cells = np.reshape(mesh.to_rgba(values), (-1, 4)).tolist()
    rows = len(axes.get_yticks())
    flat = [to_hex(tuple(cell)) for cell in cells]
    return [flat[len(flat) // rows * row : len(flat) // rows * (row + 1)] for row in range(rows)]


def test_flow_draws_the_last_step_in_forward_order() -> None:
    axes = drawn(gradient_flow(CHAIN))
    assert axes.get_yscale() == "log"
    assert names(axes) == ["fc1", "fc2", "fc3"]
    assert line(axes, "this step").tolist() == [[0, 3e-4], [1, 1e-2], [2, 4.0]]
    assert "step 2" in axes.get_title(loc="left")
    assert labels(axes) == ["p10 to p90 of the observed steps", "this step"]


def test_flow_draws_the_step_that_was_asked_for() -> None:
    axes = gradient_flow(CHAIN, step=0)
    assert line(axes, "this step")[:, 1].tolist() == [1e-4, 1e-2, 1.0]
    assert "step 0" in axes.get_title(loc="left")


def test_the_band_spans_the_percentiles_over_the_steps() -> None:
    (band,) = gradient_flow(CHAIN).collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    expected = np.percentile([[1e-4, 2e-4, 3e-4], [1e-2] * 3, [1.0, 2.0, 4.0]], [10, 90], axis=1)
    assert set(np.round(heights, 12).tolist()) == set(np.round(expected, 12).ravel().tolist())


def test_one_step_has_no_band_and_needs_no_legend() -> None:
    axes = drawn(gradient_flow(recording(steps=1, activation_gradient={"a": 1.0, "b": 2.0})))
    assert not axes.collections
    assert labels(axes) == []


def test_zeros_are_marked_at_the_bottom_and_what_is_not_finite_at_the_top() -> None:
    made = recording(steps=1, activation_gradient={"a": 0.0, "b": 1.0, "c": math.nan, "d": math.inf, "e": 0.0})
    axes = drawn(gradient_flow(made))
    assert line(axes, "zero").tolist() == [[0, 0.03], [4, 0.03]]
    assert line(axes, "NaN or Inf").tolist() == [[2, 0.96], [3, 0.96]]
    assert np.isfinite(line(axes, "this step")[:, 1]).tolist() == [False, True, False, False, False]
    assert any(each.get_marker() == "$0$" for each in axes.lines)
    assert labels(axes) == ["this step", "zero", "NaN or Inf"]


def test_what_was_not_measured_is_a_gap_and_no_mark() -> None:
    made = recording(steps=2, activation_gradient={"a": [1.0, None], "b": 1.0, "never": [None, None]})
    axes = drawn(gradient_flow(made))
    assert names(axes) == ["a", "b"]
    assert np.isnan(line(axes, "this step")[:, 1]).tolist() == [True, False]
    assert labels(axes) == ["p10 to p90 of the observed steps", "this step"]


@pytest.mark.parametrize("value", [0.0, math.nan, 1e-300, 1e150])
def test_a_flow_of_one_magnitude_can_be_drawn(value: float) -> None:
    low, high = drawn(gradient_flow(recording(steps=2, activation_gradient={"a": value, "b": value}))).get_ylim()
    assert 0 < low < high < math.inf


@pytest.mark.parametrize("count", [1, 6, 40, 41, 120, 500])
def test_names_are_thinned_when_there_are_many(count: int) -> None:
    axes = gradient_flow(recording(steps=1, activation_gradient={f"layers.{i}": 1.0 for i in range(count)}))
    assert count / 40 <= count / len(names(axes)) <= max(1, count / 20)
    assert names(axes)[0] == "layers.0"


def test_long_names_lose_their_beginning() -> None:
    axes = gradient_flow(recording(steps=1, activation_gradient={f"{'very.' * 20}deep.attention": 1.0, "short": 1.0}))
    long, short = names(axes)
    assert long.startswith("\N{HORIZONTAL ELLIPSIS}")
    assert long.endswith("very.deep.attention")
    assert len(long) == 32
    assert short == "short"


@pytest.mark.parametrize("name", ["a$x^{", "$\\frac$", "_b_", "%s", "{0}"])
def test_names_are_not_formulas(name: str) -> None:
    made = recording(steps=1, activation_gradient={name: 1.0, f"{name}2$": 1.0})
    drawn(gradient_flow(made))
    drawn(history(made))


def test_a_given_axes_is_used() -> None:
    left, right = Figure(layout="constrained").subplots(1, 2)
    assert gradient_flow(CHAIN, ax=left) is left
    assert history(CHAIN, ax=right) is right
    drawn(left)


def test_a_step_that_was_not_observed_is_an_error() -> None:
    with pytest.raises(NotRecorded, match="step 9 was not observed"):
        gradient_flow(CHAIN, step=9)


@pytest.mark.parametrize("made", [Recording(), recording(steps=2, activation={"a": 1.0})])
def test_pictures_of_nothing_say_so(made: Recording) -> None:
    assert "No gradient arrived" in drawn(gradient_flow(made)).texts[0].get_text()
    assert "No activation gradient rms was measured" in drawn(history(made)).texts[0].get_text()


def test_history_has_a_row_for_each_site_and_a_column_for_each_observed_step() -> None:
    made = replace(CHAIN, steps=(CHAIN.steps[0], replace(CHAIN.steps[1], stored=None), CHAIN.steps[2]))
    axes = history(made)
    assert np.shape(colours(axes)) == (3, 2)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["fc1", "fc2", "fc3"]
    assert names(axes) == ["0", "2"]
    assert axes.get_ylim() == (3, 0), "forward order runs from top to bottom"


def test_history_colours_by_order_of_magnitude() -> None:
    ((small, middle, great),) = colours(history(recording(steps=3, activation_gradient={"a": [1e-6, 1e-3, 1.0]})))
    assert len({small, middle, great}) == 3
    ((equal, other, _),) = colours(history(recording(steps=3, activation_gradient={"a": [1e-3, 1.0, 1e3]})))
    assert (equal, other) == (small, middle)


def test_history_tells_zero_not_finite_and_not_measured_apart() -> None:
    made = recording(steps=4, activation_gradient={"a": [0.0, 1.0, math.nan, None], "b": [1.0, 10.0, math.inf, 1.0]})
    axes = history(made)
    cells = colours(axes)
    assert [cells[0][0], *cells[0][2:]] == [BLACK, MAGENTA, GREY]
    assert cells[1][2] == MAGENTA
    assert not {cells[0][1], *cells[1][:2], cells[1][3]} & {BLACK, MAGENTA, GREY}
    assert labels(axes) == ["zero", "NaN or Inf", "not measured"]


def test_a_healthy_history_needs_no_legend() -> None:
    assert labels(drawn(history(CHAIN))) == []


def test_history_shows_any_kind_and_statistic_without_its_sign() -> None:
    made = recording(steps=2, parameter={"fc.weight": [1.0, 10.0]})
    axes = history(made, Kind.PARAMETER, Statistic.MIN)
    assert axes.get_title(loc="left") == "Parameter min"
    assert BLACK not in colours(axes)[0]
    assert len(set(colours(axes)[0])) == 2


def test_pyplot_is_never_loaded() -> None:
    code = """
import sys
from gradscope.reports.plots import gradient_flow, history
from gradscope.testing import recording
made = recording(steps=2, activation_gradient={"a": 1.0})
gradient_flow(made), history(made)
print("matplotlib.pyplot" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
