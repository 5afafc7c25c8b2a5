"""What the fused meter measures, against float64: interpreted on the CPU, and compiled where there is a GPU."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from gradscope.records import Floats, Statistic, derive

pytest.importorskip("triton", reason="the fused meter needs Triton, which is not installed")

from fused_player import Call, Measure, interpreter, player

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
SIZES = [1, 2, 1023, 1024, 1025, 4095, 4096, 4097, 100_000]
PLACES = [0, 4095, 4096, 9999]
NAN, INF = float("nan"), float("inf")
PROVIDERS = ["interpreted", *["compiled"] * torch.cuda.is_available()]


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Measure]:
    with interpreter() as play:
        yield play


@pytest.fixture(params=PROVIDERS)
def measure(request: pytest.FixtureRequest) -> Measure:
    if request.param == "compiled":
        return player(torch.device("cuda"))
    play: Measure = request.getfixturevalue("interpreted")
    return play


def row(measure: Measure, tensor: Tensor) -> Floats:
    """The stored statistics of one tensor, which are the same with and without company."""
    (sending,) = measure([("measure", tensor), ("measure_all", [tensor.new_ones(5), tensor])])
    alone, _, together = sending.rows
    np.testing.assert_array_equal(alone, together)
    return np.array(alone)


def value(stored: Floats, statistic: Statistic) -> float:
    return float(derive(stored, statistic))


def assert_equals_float64(stored: Floats, tensor: Tensor, tolerance: float = 1e-5) -> None:
    exact = tensor.double()
    expected = {
        Statistic.COUNT: tensor.numel(),
        Statistic.MEAN: exact.mean(),
        Statistic.NORM: exact.norm(),
        Statistic.RMS: exact.square().mean().sqrt(),
        Statistic.STD: exact.std(correction=0),
        Statistic.MIN: exact.min(),
        Statistic.MAX: exact.max(),
    }
    for statistic, number in expected.items():
        assert value(stored, statistic) == pytest.approx(float(number), rel=tolerance, abs=0), statistic


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_equal_those_of_float64(measure: Measure, dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(size) * 3 + 2).to(dtype)
    assert_equals_float64(row(measure, tensor), tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_a_thousand_deviations_from_zero(measure: Measure, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(100_000) - 1000).to(dtype)
    assert_equals_float64(row(measure, tensor), tensor)


@pytest.mark.parametrize("magnitude", [1e-35, 3e35])
def test_a_mean_far_from_zero_at_the_ends_of_single_precision(measure: Measure, magnitude: float) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(100_000) - 1000) * magnitude
    assert_equals_float64(row(measure, tensor), tensor)


@pytest.mark.parametrize("place", [0, 5000, 99_999])
@pytest.mark.parametrize("factor", [1e3, -1e6])
@pytest.mark.parametrize("size", [4096, 100_000])
def test_one_element_far_larger_than_the_rest(measure: Measure, factor: float, size: int, place: int) -> None:
    torch.manual_seed(0)
    tensor = torch.randn(size) + 1
    tensor[place % size] = factor
    assert_equals_float64(row(measure, tensor), tensor, 1e-4)


@pytest.mark.parametrize("magnitude", [1e-37, 1e-25, 1e25, 3e37])
def test_magnitudes_that_single_precision_cannot_square(measure: Measure, magnitude: float) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(9000) + 0.5) * magnitude
    assert_equals_float64(row(measure, tensor), tensor)


def test_magnitudes_of_all_kinds_in_one_tensor(measure: Measure) -> None:
    torch.manual_seed(0)
    tensor = torch.cat([torch.rand(5000) * scale for scale in (0.0, 1e-30, 1e-20, 1.0, 1e20)])
    assert_equals_float64(row(measure, tensor), tensor)
    assert_equals_float64(row(measure, tensor[:14_000]), tensor[:14_000])


def test_numbers_below_the_normal_ones(measure: Measure) -> None:
    tensor = torch.tensor([1e-40, 3e-40, -2e-44])
    assert_equals_float64(row(measure, tensor), tensor)


def test_the_largest_numbers_of_either_sign(measure: Measure) -> None:
    largest = torch.finfo(torch.float32).max
    tensor = torch.tensor([largest, -largest, largest / 2])
    assert_equals_float64(row(measure, tensor), tensor)


def test_a_sum_that_half_precision_cannot_hold(measure: Measure) -> None:
    assert value(row(measure, torch.full((5000,), 100.0, dtype=torch.float16)), Statistic.SUM) == 500_000


@pytest.mark.parametrize("signs", [[1.0, 1.0], [1.0, -1.0], [-1.0, 0.25]])
def test_squares_beyond_double_precision_are_infinite(measure: Measure, signs: list[float]) -> None:
    tensor = torch.tensor(signs, dtype=torch.float64) * 1e200
    stored = row(measure, tensor)
    assert stored[2] == INF
    assert stored[3:].tolist() == [tensor.min(), tensor.max()]


@pytest.mark.parametrize("size", [1, 3, 49, 5000, 100_000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_constant_does_not_deviate(measure: Measure, dtype: torch.dtype, size: int) -> None:
    torch.manual_seed(0)
    constants = [0.0, 0.1, -1000.1, 1e-25, 3e38, 0.64042264, *torch.randn(45 if size < 5000 else 0).tolist()]
    tensors = [torch.full((size,), constant, dtype=dtype) for constant in constants]
    (sending,) = measure([("measure_all", tensors)])
    assert derive(sending.rows, Statistic.STD).tolist() == [0] * len(tensors)
    exact = [float(tensor[0]) for tensor in tensors]
    assert derive(sending.rows, Statistic.MEAN).tolist() == pytest.approx(exact, rel=1e-15, abs=0)
    assert derive(sending.rows, Statistic.RMS).tolist() == pytest.approx(np.abs(exact).tolist(), rel=1e-15, abs=0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_in_every_statistic(measure: Measure, dtype: torch.dtype, place: int) -> None:
    tensor = torch.ones(10_000, dtype=dtype)
    tensor[17] = INF
    tensor[place] = NAN
    stored = row(measure, tensor)
    assert stored[0] == 10_000
    assert np.isnan(stored[1:]).all()


@pytest.mark.parametrize("others", [[], [1.0], [1.0, 1.0, INF], [-INF, INF]])
def test_nan_in_little_company(measure: Measure, others: list[float]) -> None:
    assert np.isnan(row(measure, torch.tensor([*others, NAN]))[1:]).all()
    assert np.isnan(row(measure, torch.full((5000,), NAN))[1:]).all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("infinity", [INF, -INF])
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinity_is_not_nan(measure: Measure, dtype: torch.dtype, infinity: float, place: int) -> None:
    torch.manual_seed(0)
    tensor = torch.rand(10_000).to(dtype) + 1
    finite = tensor.clone()
    tensor[place] = infinity
    stored = row(measure, tensor)
    finite[place] = 2 if infinity > 0 else 1
    assert stored[1] == infinity
    assert stored[2] == INF
    assert stored[3] == (-INF if infinity < 0 else finite.min())
    assert stored[4] == (INF if infinity > 0 else finite.max())


@pytest.mark.parametrize("size", [2, 5000])
def test_both_infinities(measure: Measure, size: int) -> None:
    tensor = torch.ones(size)
    tensor[0], tensor[-1] = INF, -INF
    stored = row(measure, tensor)
    assert np.isnan(stored[1])
    assert stored[2:].tolist() == [INF, -INF, INF]


def test_infinity_among_the_largest_numbers(measure: Measure) -> None:
    tensor = torch.full((9,), -3e38)
    tensor[4] = INF
    assert row(measure, tensor)[1:].tolist() == [INF, INF, tensor[0], INF]


def test_many_tensors_at_once_have_the_rows_that_each_has_alone(measure: Measure) -> None:
    torch.manual_seed(0)
    flats = [torch.randn(size).to(dtype) for size in (1, 5000, 4096, 3, 20_000) for dtype in DTYPES]
    alone, together = measure([("measure", flat) for flat in flats], [("measure_all", flats), ("measure_all", [])])
    np.testing.assert_array_equal(alone.rows, together.rows)
    assert alone.results == list(range(20))
    assert together.results == [list(range(20)), []]


def test_views_that_begin_anywhere(measure: Measure) -> None:
    numbers = torch.arange(9000.0)
    flats = [numbers[1:], numbers[3:17], numbers[:4096]]
    (sending,) = measure([("measure", flats[0]), ("measure_all", flats)])
    for stored, flat in zip(sending.rows, [flats[0], *flats], strict=True):
        assert_equals_float64(stored, flat)


def test_a_view_that_negates(measure: Measure) -> None:
    view = torch.complex(torch.ones(3), torch.full((3,), 2.0)).conj().imag
    assert view.is_neg()
    (sending,) = measure([("measure", view), ("measure_all", [view])])
    assert sending.rows[:, 4].tolist() == [-2, -2]


def test_each_sending_has_rows_of_its_own(measure: Measure) -> None:
    sendings = measure(
        [("measure", torch.full((3,), 1.0)), ("measure", torch.full((5000,), 2.0))],
        [],
        [("measure", torch.full((4,), 3.0)), ("measure_all", [torch.full((5,), 4.0)])],
    )
    assert [sending.results for sending in sendings] == [[0, 1], [], [0, [1]]]
    assert [sending.used for sending in sendings] == [2, 0, 2]
    assert [sending.rows[:, 4].tolist() for sending in sendings] == [[1, 2], [], [3, 4]]
    assert [sending.rows[:, 0].tolist() for sending in sendings] == [[3, 5000], [], [4, 5]]


def test_buffers_grow(measure: Measure) -> None:
    def calls(start: int) -> list[Call]:
        flats = [torch.full((1 + 5000 * (i % 3),), float(start + i)) for i in range(20)]
        return [*(("measure", flat) for flat in flats), ("measure_all", flats)]

    for start, sending in zip((0, 30, 60), measure(calls(0), calls(30), calls(60), chunk=2), strict=True):
        expected = [start + i for i in range(20)] * 2
        assert sending.rows[:, 3].tolist() == expected
        assert sending.rows[:, 4].tolist() == expected


def test_streams_that_take_turns(interpreted: Measure) -> None:
    def calls(start: float) -> list[Call]:
        flats = [torch.full((5000,), start + i) for i in range(4)]
        first: list[Call] = [("stream", 7), ("measure", flats[0]), ("stream", 8), ("measure", flats[1])]
        return [*first, ("stream", 7), ("measure_all", flats[2:])]

    both, again, one = interpreted(calls(0.0), calls(10.0), [("measure", torch.ones(3))])
    assert both.rows[:, 4].tolist() == [0, 1, 2, 3]
    assert again.rows[:, 4].tolist() == [10, 11, 12, 13]
    assert one.rows[:, 4].tolist() == [1]
