"""Statistics against float64, for the dtypes and layouts that tensors come in."""

import pytest
import torch
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.transfer import Arrived, Readback
from gradscope.records import Floats, Statistic, derive

LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 1),
    "channels last": lambda x: x.view(8, 4, 6, 5).contiguous(memory_format=torch.channels_last),
    "every second": lambda x: x[:, ::2],
    "expanded": lambda x: x[:, :1].expand(-1, 7),
    "a scalar": lambda x: x[0, 0],
}


def measured(tensor: Tensor) -> Floats:
    readback = Readback()
    ticket = readback.measure(tensor)
    return Arrived([readback.send()]).rows([ticket])


def value(tensor: Tensor, statistic: Statistic) -> float:
    return float(derive(measured(tensor), statistic)[0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_statistics_equal_those_of_float64(layout: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = LAYOUTS[layout](torch.randn(32, 30) * 3 + 2).to(dtype)
    exact = tensor.double()
    expected = {
        Statistic.COUNT: tensor.numel(),
        Statistic.MEAN: exact.mean(),
        Statistic.STD: exact.std(correction=0),
        Statistic.NORM: exact.norm(),
        Statistic.RMS: exact.square().mean().sqrt(),
        Statistic.MIN: exact.min(),
        Statistic.MAX: exact.max(),
        Statistic.ABS_MAX: exact.abs().max(),
    }
    for statistic, number in expected.items():
        assert value(tensor, statistic) == pytest.approx(float(number), rel=1e-4, abs=2e-3), statistic


def test_a_layout_without_gaps_is_not_copied() -> None:
    images = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert statistics.flatten(images).untyped_storage().data_ptr() == images.untyped_storage().data_ptr()


def test_the_norm_of_a_large_tensor_is_exact() -> None:
    tensor = torch.full((12_000_007,), 0.1)
    assert value(tensor, Statistic.NORM) == pytest.approx(0.1 * 12_000_007**0.5, rel=1e-4)


def test_a_sum_that_half_precision_cannot_hold() -> None:
    assert value(torch.full((5000,), 100.0, dtype=torch.float16), Statistic.SUM) == 500_000


@pytest.mark.parametrize("magnitude", [1e-30, 1e30])
def test_magnitudes_that_single_precision_cannot_square(magnitude: float) -> None:
    assert value(torch.full((9,), magnitude), Statistic.RMS) == pytest.approx(magnitude, rel=1e-5)


@pytest.mark.parametrize(
    ("special", "nan", "inf"), [(float("nan"), 1, 0), (float("inf"), 0, 1), (-float("inf"), 0, 1), (1.0, 0, 0)]
)
def test_nan_and_inf_are_told_apart(special: float, nan: int, inf: int) -> None:
    tensor = torch.tensor([0.5, special, -2.0])
    assert (value(tensor, Statistic.NAN), value(tensor, Statistic.INF)) == (nan, inf)


def test_many_measurements_keep_their_rows() -> None:
    readback = Readback()
    tickets = [
        readback.measure(torch.full((3,), float(i), dtype=(torch.float32, torch.float64)[i % 2])) for i in range(999)
    ]
    rows = Arrived([readback.send()]).rows(tickets)
    assert rows[:, 3].tolist() == list(range(999))
    assert readback.used == 0
