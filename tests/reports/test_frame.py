import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gradscope.errors import GradscopeError, NotRecorded
from gradscope.records import Floats, GraphSummary, Kind, Recording, Site, Step, merge
from gradscope.reports.frame import flow, frame
from gradscope.testing import recording

COLUMNS = [
    "step", "module", "module_type", "kind", "name", "shape", "dtype", "count",
    "mean", "std", "rms", "norm", "min", "max", "abs_max", "nan", "inf",
]  # fmt: skip
FLOW_COLUMNS = ["module", "module_type", "gradient_rms", "gain", "product"]


def stored(*values: float) -> Floats:
    """What is stored of a tensor that holds these values."""
    tensor = np.array(values)
    return np.array([tensor.size, tensor.sum(), (tensor**2).sum(), tensor.min(), tensor.max()])


def test_a_frame_has_one_row_for_each_measured_site_and_observed_step() -> None:
    made = recording(steps=3, activation={"b": [1.0, None, 3.0], "a": 2.0}, parameter={"b.weight": 4.0})
    made = replace(made, steps=(made.steps[0], replace(made.steps[1], stored=None), made.steps[2]))
    table = frame(made)
    assert list(table.columns) == COLUMNS
    assert table["step"].tolist() == [0, 0, 0, 2, 2, 2]
    assert table["module"].tolist() == ["b", "a", "b"] * 2
    assert table["kind"].tolist() == ["activation", "activation", "parameter"] * 2
    assert table["name"].tolist() == ["", "", "weight"] * 2
    assert table["rms"].tolist() == [1.0, 2.0, 4.0, 3.0, 2.0, 4.0]


def test_rows_that_were_not_measured_are_left_out() -> None:
    table = frame(recording(steps=3, activation={"a": [None, 1.0, None], "b": [1.0, None, None]}))
    assert list(zip(table["step"], table["module"], strict=True)) == [(0, "b"), (1, "a")]


def test_statistics_are_those_of_the_tensor() -> None:
    site = Site(Kind.PARAMETER_GRADIENT, "fc", "Linear", "weight", shape=(2, 2), dtype="bfloat16")
    row = frame(Recording((site,), (Step(7, stored=stored(1.0, -5.0, 2.0, 2.0)[None]),))).iloc[0]
    assert row["step"] == 7
    assert (row["module_type"], row["shape"], row["dtype"], row["count"]) == ("Linear", (2, 2), "bfloat16", 4)
    tensor = np.array([1.0, -5.0, 2.0, 2.0])
    expected = {
        "mean": 0.0, "std": tensor.std(), "rms": math.sqrt(8.5), "norm": math.sqrt(34.0),
        "min": -5.0, "max": 2.0, "abs_max": 5.0,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_columns_have_plain_types() -> None:
    table = frame(recording(steps=2, activation={"a": 1.0}))
    assert type(table["kind"].tolist()[0]) is str
    assert all(isinstance(table[name].dtype, pd.StringDtype) for name in ("module", "module_type", "name", "dtype"))
    assert {name: str(table[name].dtype) for name in ("step", "count", "rms", "nan", "inf")} == {
        "step": "int64",
        "count": "int64",
        "rms": "float64",
        "nan": "bool",
        "inf": "bool",
    }


def test_nan_and_inf_are_flags() -> None:
    table = frame(recording(steps=1, activation={"fine": 1.0, "nan": math.nan, "inf": math.inf}))
    assert table["nan"].tolist() == [False, True, False]
    assert table["inf"].tolist() == [False, False, True]


def test_sites_that_appeared_later_have_no_rows_before() -> None:
    sites = tuple(Site(Kind.ACTIVATION, name, "Linear") for name in "ab")
    first, second = stored(1.0)[None], np.stack([stored(1.0), stored(2.0)])
    table = frame(Recording(sites, (Step(0, stored=first), Step(1, stored=second))))
    assert list(zip(table["step"], table["module"], strict=True)) == [(0, "a"), (1, "a"), (1, "b")]


def test_an_empty_recording_gives_empty_frames() -> None:
    assert list(frame(Recording()).columns) == COLUMNS
    assert list(flow(Recording()).columns) == FLOW_COLUMNS
    assert frame(Recording()).dtypes.equals(frame(recording(steps=1, activation={"a": 1.0})).dtypes)
    assert len(frame(Recording())) == len(flow(Recording())) == 0


def chain(**more: object) -> Recording:
    gradients = {"fc1": [1e-6, 0.5], "fc2": [1e-3, 0.5], "fc3": [1.0, 2.0]}
    sources = {"fc2": ("fc1",), "fc3": ("fc2",)}
    return recording(steps=2, activation_gradient=gradients, sources=sources, **more)  # type: ignore[arg-type]


def test_flow_shows_each_factor_and_the_product() -> None:
    table = flow(chain(), step=0)
    assert list(table.columns) == FLOW_COLUMNS
    assert table["module"].tolist() == ["fc1", "fc2", "fc3"]
    assert table["gradient_rms"].tolist() == pytest.approx([1e-6, 1e-3, 1.0])
    assert table["gain"].tolist() == pytest.approx([math.nan, 1e-3, 1e-3], nan_ok=True)
    assert table["product"].tolist() == pytest.approx([1e-6, 1e-3, 1.0])


def test_gains_of_a_chain_multiply_to_the_product() -> None:
    table = flow(chain(), step=1)
    assert math.prod(table["gain"][1:]) == pytest.approx(table["product"][0])


def test_flow_takes_the_last_step_in_which_a_gradient_arrived() -> None:
    made = recording(steps=3, activation={"a": 1.0}, activation_gradient={"a": [1.0, 2.0, None]})
    assert flow(made)["gradient_rms"].tolist() == [2.0]
    assert flow(made, step=2).empty
    assert flow(recording(steps=3, activation={"a": 1.0})).empty


@pytest.mark.parametrize("step", [5, -2])
def test_flow_of_a_step_that_was_not_observed_says_which_were(step: int) -> None:
    with pytest.raises(NotRecorded, match=rf"step {step} was not observed.*2 observed steps from 0 to 1.*step=-1"):
        flow(chain(), step=step)
    with pytest.raises(GradscopeError, match="no step was observed"):
        flow(Recording(), step=step)


def test_outputs_of_several_tensors_count_as_one() -> None:
    sites = tuple(Site(Kind.ACTIVATION_GRADIENT, "lstm", "LSTM", name) for name in ("0", "1"))
    parts = np.stack([stored(1.0, -1.0, 1.0), stored(5.0)])
    table = flow(Recording(sites, (Step(0, stored=parts),)))
    assert table["module"].tolist() == ["lstm"]
    assert table["module_type"].tolist() == ["LSTM"]
    assert table["gradient_rms"].tolist() == pytest.approx([math.sqrt(28 / 4)])


def test_several_sources_are_merged() -> None:
    made = recording(
        steps=1,
        activation_gradient={"left": 1.0, "right": 3.0, "join": 2.0},
        count={"left": 4, "right": 12, "join": 4},
        sources={"join": ("left", "right", "unmeasured")},
    )
    merged = merge(made.stored[0, 0], made.stored[0, 1])
    assert flow(made)["gain"].tolist()[2] == pytest.approx(math.sqrt(merged[2] / merged[0]) / 2.0)


def test_gain_is_unknown_without_measured_sources() -> None:
    made = recording(steps=1, activation_gradient={"a": 1.0, "b": 1.0, "c": 1.0}, sources={"b": ("gone",), "c": ()})
    assert flow(made)["gain"].isna().all()
    assert flow(replace(made, graph=GraphSummary()))["gain"].isna().all()


def test_zero_over_zero_is_unknown() -> None:
    made = recording(steps=1, activation_gradient={"a": 0.0, "b": 0.0}, sources={"b": ("a",)})
    table = flow(made)
    assert table["gradient_rms"].tolist() == [0.0, 0.0]
    assert table[["gain", "product"]].isna().all(axis=None)


def test_gradients_that_are_not_finite_stay_visible() -> None:
    made = recording(steps=1, activation_gradient={"a": math.nan, "b": math.inf, "c": 1.0}, sources={"c": ("b",)})
    table = flow(made)
    assert table["gradient_rms"].tolist() == pytest.approx([math.nan, math.inf, 1.0], nan_ok=True)
    assert table["gain"].tolist()[2] == math.inf
