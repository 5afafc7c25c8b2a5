"""The compiled kernel against float64 and against torch's own operations, which take its place where it is absent."""

import itertools
from collections.abc import Iterator
from math import inf, nan, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.hooks import marks, statistics
from gradscope.hooks.copies import restored, save, unchanged
from gradscope.hooks.marks import Marks
from gradscope.hooks.meters import host
from gradscope.hooks.meters.host import HostMeter
from gradscope.hooks.transfer import Arrived, Readback
from gradscope.records import Floats, Kind, Statistic, derive

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SIZES = (1, 15, 16, 17, 4095, 4096, 4097, 70_001)
BACKENDS = ("kernel", "eager")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "eager":
        monkeypatch.setattr(host, "AVAILABLE", False)
    return str(request.param)


def rows(*tensors: Tensor) -> Floats:
    readback = Readback()
    tickets = readback.measure_all(list(tensors))
    return Arrived([readback.send()]).rows(list(tickets))


def numbers(kind: str, size: int) -> Tensor:
    torch.manual_seed(size)
    plain = torch.randn(size, dtype=torch.float64)
    made = {
        "centred": plain,
        "far from zero": plain + 1000,
        "an outlier in front": torch.cat([torch.tensor([3000.0], dtype=torch.float64), plain[1:]]),
        "an outlier at the end": torch.cat([plain[1:], torch.tensor([-3000.0], dtype=torch.float64)]),
        "constant": torch.full((size,), 3.0, dtype=torch.float64),
        "zeros": torch.zeros(size, dtype=torch.float64),
        "mostly zeros": plain * (torch.arange(size) % 97 == 0),
    }
    return made[kind]


KINDS = (
    "centred",
    "far from zero",
    "an outlier in front",
    "an outlier at the end",
    "constant",
    "zeros",
    "mostly zeros",
)


def test_this_environment_has_the_kernel() -> None:
    assert host.AVAILABLE, "build it: pip install --editable . with a C compiler at hand"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_deviation_and_norm_equal_those_of_float64(kind: str, dtype: torch.dtype, backend: str) -> None:
    for size in SIZES:
        tensor = numbers(kind, size).to(dtype)
        exact = tensor.double()
        row = rows(tensor)
        mean, std, norm = exact.mean(), exact.std(correction=0), exact.norm()
        slack = 1e-6 * float(norm) / sqrt(size)
        assert derive(row, Statistic.MEAN)[0] == pytest.approx(float(mean), rel=1e-3, abs=slack)
        assert derive(row, Statistic.STD)[0] == pytest.approx(float(std), rel=1e-3, abs=slack)
        assert derive(row, Statistic.NORM)[0] == pytest.approx(float(norm), rel=1e-3)
        assert row[0, [0, 3, 4]].tolist() == [size, float(exact.min()), float(exact.max())]


@pytest.mark.parametrize("magnitude", [1e-30, 1e-22, 1e-18, 1e18, 1e25, 1e30])
def test_magnitudes_whose_squares_single_precision_cannot_hold(magnitude: float) -> None:
    tensor = torch.randn(10_000) * magnitude
    assert derive(rows(tensor), Statistic.NORM)[0] == pytest.approx(float(tensor.double().norm()), rel=1e-3)
    assert derive(rows(tensor), Statistic.STD)[0] == pytest.approx(float(tensor.double().std()), rel=1e-3)


def test_large_and_small_magnitudes_in_one_tensor() -> None:
    tensor = torch.cat([torch.randn(9000) * 1e25, torch.randn(9000) * 1e-25, torch.randn(9000)])
    assert derive(rows(tensor), Statistic.NORM)[0] == pytest.approx(float(tensor.double().norm()), rel=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 5000, 9999])
def test_nan_and_infinity(dtype: torch.dtype, place: int, backend: str) -> None:
    for special, low, high in ((nan, nan, nan), (inf, None, inf), (-inf, -inf, None)):
        tensor = torch.randn(10_000).to(dtype)
        tensor[place] = special
        row = rows(tensor)[0]
        assert low is None or row[3] == low or (np.isnan(low) and np.isnan(row[3]))
        assert high is None or row[4] == high or (np.isnan(high) and np.isnan(row[4]))
        assert np.isnan(row[2]) if np.isnan(special) else row[2] == inf


def test_both_infinities_are_no_nan(backend: str) -> None:
    row = rows(torch.tensor([inf, 1.0, -inf]))[0]
    assert (row[2], row[3], row[4]) == (inf, -inf, inf)


def test_half_precision_subnormals_and_extremes() -> None:
    patterns = torch.arange(0x7C00, dtype=torch.int32)
    tensor = torch.cat([patterns, patterns | 0x8000]).to(torch.int16).view(torch.float16)
    exact = tensor.double()
    row = rows(tensor)[0]
    assert row[1] == pytest.approx(float(exact.sum()), abs=1e-5 * float(exact.abs().sum()))
    assert row[2] == pytest.approx(float(exact.square().sum()), rel=1e-6)
    assert row[3:].tolist() == [-65504, 65504]
    smallest = rows(torch.tensor([6e-8], dtype=torch.float16))[0]
    assert smallest[4] == float(torch.tensor(6e-8, dtype=torch.float16))


def layouts() -> Iterator[tuple[str, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(8, 4, 6, 5)
    yield "transposed", x.transpose(1, 3)
    yield "channels last", x.contiguous(memory_format=torch.channels_last)
    yield "every second", x[:, ::2]
    yield "expanded", torch.randn(3, 1).expand(3, 7)
    yield "a broadcast scalar", torch.randn(()).expand(12)
    yield "a scalar", torch.randn(())
    yield "an offset", x[1:]
    yield "complex", torch.randn(5, 7, dtype=torch.complex64)
    yield "conjugated", torch.randn(5, 7, dtype=torch.complex64).conj()
    yield "negated lazily", torch.randn(5, 7, dtype=torch.complex64).conj().imag
    yield "a parameter", nn.Parameter(torch.randn(3, 5))


@pytest.mark.parametrize(("name", "tensor"), list(layouts()))
def test_layouts(name: str, tensor: Tensor, backend: str) -> None:
    exact = (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).detach().double()
    row = rows(tensor)[0]
    expected = torch.stack([exact.sum(), exact.square().sum(), exact.min(), exact.max()])
    assert row[0] == exact.numel()
    assert row[1:].tolist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-4)


def test_what_cannot_be_measured_has_no_ticket(backend: str) -> None:
    readback = Readback()
    odd = [torch.randn(3).to_sparse(), torch.arange(3), torch.empty(0), torch.randn(2, device="meta"), torch.ones(2)]
    assert [ticket >= 0 for ticket in readback.measure_all(odd)] == [False] * 4 + [True]


@pytest.mark.parametrize("offset", [0, 2])
def test_a_tensor_whose_memory_was_freed_is_not_read(offset: int, backend: str) -> None:
    tensor = torch.ones(100_000)[offset:]
    tensor.untyped_storage().resize_(0)
    readback = Readback()
    assert readback.plain(tensor) is None
    assert readback.measure_all([tensor]) == [-1]
    assert save([tensor]) == [None]
    assert statistics.obstacle(tensor) == "a tensor whose memory was freed"


def test_the_kernel_steps_aside_where_a_mode_would_see_it_look() -> None:
    table = HostMeter().rows
    with torch.device("cpu"):
        assert table.measure(torch.ones(3)) is None
    assert table.measure(torch.ones(3)) == 0


def test_rows_keep_their_numbers_while_their_table_grows() -> None:
    meter = HostMeter()
    expected = []
    for i in range(700):
        expected.append(meter.rows.measure(torch.full((2,), float(i))))
        first, left = meter.rows.measure_all([torch.full((3,), 1000.0 + i + k) for k in range(i % 5)])
        assert not left
        expected.append(first)
    sent = meter.send().read()
    assert [sent[row, 3] for row in expected[::2] if row is not None] == list(range(700))
    assert meter.used == 0
    assert meter.rows.measure(torch.ones(1)) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 100, statistics.SAMPLED, 3 * statistics.SAMPLED, 100_003, 1_000_000])
def test_how_far_a_tensor_has_moved(dtype: torch.dtype, size: int, backend: str) -> None:
    torch.manual_seed(0)
    readback, before = Readback(), torch.randn(size).to(dtype)
    tensor = before.clone()
    saved = save([tensor])
    tensor += (0.5 * torch.randn(size)).to(dtype)
    ticket = readback.moved([tensor], saved)[0]
    row = Arrived([readback.send()]).rows([ticket])
    moved = (tensor.double() - before.double()).norm()
    exact = size < 2 * statistics.SAMPLED
    assert row[0, 0] == pytest.approx(size, rel=1e-9)
    assert derive(row, Statistic.NORM)[0] == pytest.approx(float(moved), rel=1e-5 if exact else 0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_is_measured_at_once_as_it_is_apart(dtype: torch.dtype, backend: str) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(size).to(dtype) for size in (1, 100, 3 * statistics.SAMPLED)]
    saved = save(tensors)
    for tensor in tensors:
        tensor.add_(1)
    readback = Readback()
    values, moves = readback.stepped(tensors, saved)
    apart = [*readback.estimate_all(tensors), *readback.moved(tensors, saved)]
    arrived = Arrived([readback.send()])
    np.testing.assert_array_equal(arrived.rows([*values, *moves]), arrived.rows(apart))


def test_a_step_of_which_one_tensor_is_odd_keeps_the_others(backend: str) -> None:
    tensors = [nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5)), torch.ones(3)]
    saved = [*save(tensors[:2]), None]
    tensors[0].data = torch.ones(6)
    readback = Readback()
    values, moves = readback.stepped(tensors, saved)
    assert [ticket >= 0 for ticket in (*values, *moves)] == [True, True, True, False, True, False]
    assert Arrived([readback.send()]).rows([values[1], moves[1]])[:, 4].tolist() == [1, 0]


def test_gradients_are_found_at_their_parameters(backend: str) -> None:
    parameters: list[Tensor] = [nn.Parameter(torch.ones(2)) for _ in range(4)]
    readback = Readback()
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full((2,), float(number))
    tickets = readback.gradients(parameters)
    parameters[0].grad, parameters[2].grad = None, torch.ones(2).to_sparse()
    odd = readback.gradients(parameters)
    arrived = Arrived([readback.send()])
    assert arrived.rows(tickets)[:, 4].tolist() == [0, 1, 2, 3]
    assert [ticket >= 0 for ticket in odd] == [False, True, False, True]
    assert arrived.rows([odd[1], odd[3]])[:, 4].tolist() == [1, 3]


@pytest.mark.parametrize("odd", [nan, inf])
def test_rows_tell_at_once_whether_all_was_finite(odd: float) -> None:
    table = HostMeter()
    for values, finite in ([1.0], True), ([1.0, odd], False), ([2.0], True):
        table.rows.measure(torch.tensor(values))
        table.rows.measure_all([torch.ones(1)])
        assert table.send().finite is finite
    table.rows.measure_all([torch.tensor([odd]), torch.ones(1)])
    assert not table.send().finite


@pytest.mark.parametrize("size", [1, 100, 3 * statistics.SAMPLED])
def test_copies_tell_whether_a_tensor_is_unchanged(size: int, backend: str) -> None:
    tensor = torch.ones(size)
    (saved,) = save([tensor])
    assert unchanged(tensor, saved)
    assert not unchanged(tensor.double(), saved)
    assert not unchanged(torch.ones(2 * size), saved)
    tensor[0] = 2
    assert not unchanged(tensor, saved)
    assert not unchanged(torch.ones(3).to_sparse(), None)


def test_a_small_copy_gives_back_the_elements(backend: str) -> None:
    tensor = torch.arange(6.0).to(torch.bfloat16).view(2, 3)
    copy = restored(save([tensor])[0], tensor)
    assert copy is not None
    assert copy.dtype is tensor.dtype
    assert copy.tolist() == [0, 1, 2, 3, 4, 5]
    assert restored(None, tensor) is None


def test_what_has_changed_its_shape_cannot_be_compared(backend: str) -> None:
    readback = Readback()
    tensors = [nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))]
    saved = save(list(tensors))
    tensors[0].data = torch.ones(6)
    assert [ticket >= 0 for ticket in readback.moved(tensors, saved)] == [False, True]


def test_marks_are_the_same_with_and_without_the_kernel() -> None:
    parameters: list[Tensor] = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    parameters[0].grad = torch.ones(2)
    parameters[2].grad = torch.ones(2).mul_(2).add_(1)
    assert Marks.of(parameters).raw == marks._marks(parameters)
    assert Marks.of(parameters).versions.tolist() == [0, 0, 2]


def test_marks_tell_who_holds_a_gradient(backend: str) -> None:
    parameters: list[Tensor] = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    assert Marks.of(parameters).nothing
    assert not len(Marks.of(parameters).holders)
    parameters[0].grad = parameters[2].grad = torch.ones(2)
    holders = Marks.of(parameters).holders
    assert holders.tolist() == [0, 2]
    assert Marks.of(parameters).holders is holders


def test_a_run_without_the_kernel_is_recorded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded() -> gradscope.Recording:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 40))
        optimizer = torch.optim.Adam(model.parameters())
        with gradscope.watch(model, every=3) as scope:
            for _ in range(10):
                optimizer.zero_grad()
                model(torch.randn(5, 3, 8, 8)).square().mean().backward()
                optimizer.step()
        assert not scope.findings
        return scope.recording

    fast = recorded()
    monkeypatch.setattr(host, "AVAILABLE", False)
    slow = recorded()
    assert fast.sites == slow.sites
    for kind, statistic in itertools.product(Kind, (Statistic.COUNT, Statistic.NORM, Statistic.MIN, Statistic.MAX)):
        np.testing.assert_allclose(fast.values(kind, statistic), slow.values(kind, statistic), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 100, 8191, 8192, 100_003, 1_000_000])
def test_estimates_from_a_sample(dtype: torch.dtype, size: int, backend: str) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(size) + 2).to(dtype)
    readback = Readback()
    tickets = readback.estimate_all([tensor, torch.arange(3)])
    assert tickets[1] == -1
    row = Arrived([readback.send()]).rows(tickets[:1])
    exact, slack = tensor.double(), 1e-4 if size < 8192 else 0.05
    assert row[0, 0] == pytest.approx(size, rel=1e-9)
    assert derive(row, Statistic.MEAN)[0] == pytest.approx(float(exact.mean()), rel=slack)
    assert derive(row, Statistic.STD)[0] == pytest.approx(float(exact.std(correction=0)), rel=slack, abs=1e-4)
    assert derive(row, Statistic.NORM)[0] == pytest.approx(float(exact.norm()), rel=slack)
