"""How the fused meter launches: compiled for a GPU, falling back without one, never waiting for it."""

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="the fused meter needs Triton, which is not installed")

from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from gradscope.hooks.meters import fused, fused_kernels
from gradscope.hooks.meters.fused import FusedMeter, Pending

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LOADS = {torch.float32: "v4.b32", torch.float16: "v4.b32", torch.bfloat16: "v4.b32", torch.float64: "v2.b64"}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class FakeGPU:
    """Stands in for Triton's driver of an H100: kernels are compiled for it, and their launches noted."""

    def __init__(self) -> None:
        self.launches: list[Any] = []
        self.launcher_cls = lambda *_: lambda *call: self.launches.append(call)
        self.utils = SimpleNamespace(
            get_device_properties=lambda _: {"max_shared_mem": 1 << 16},
            load_binary=lambda *_: (0, 0, 0, 0, 1024),
            unload_module=lambda _: None,
        )

    def get_current_device(self) -> str:
        return "a fake"

    def get_current_stream(self, _device: str) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGPU]:
    if "TRITON_INTERPRET" in os.environ:
        pytest.skip("Triton interprets in this process")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    fake = FakeGPU()
    monkeypatch.setattr(driver, "_active" if hasattr(driver, "_active") else "active", fake)  # the latter until 3.4
    yield fake
    for kernel in (fused_kernels.one, fused_kernels.many):
        kernel.device_caches.pop("a fake", None)


def compiled(kernel: Any) -> list[str]:
    """The machine code of each variant of a kernel that was needed so far."""
    return [variant.asm["ptx"] for variant in kernel.device_caches["a fake"][0].values()]


@pytest.mark.parametrize(("dtype", "load"), LOADS.items())
def test_the_kernels_compile_once_and_load_16_bytes_at_a_time(gpu: FakeGPU, dtype: torch.dtype, load: str) -> None:
    meter = FusedMeter(CPU)
    for size in (1, 2, 16, 17, 4096, 100_000):
        meter.measure(torch.ones(size, dtype=dtype))
        meter.measure_all([torch.ones(size, dtype=dtype), torch.ones(1, dtype=dtype)])
    (one,), (many,) = compiled(fused_kernels.one), compiled(fused_kernels.many)
    assert f"ld.global.{load}" in one
    assert f"ld.global.{load}" in many
    assert ".ftz" not in one + many  # numbers below the normal ones are numbers
    assert [launch[0] for launch in gpu.launches[-2:]] == [25, 26]


def test_one_launch_for_all_tensors_of_a_dtype(gpu: FakeGPU) -> None:
    FusedMeter(CPU).measure_all([torch.ones(5), torch.ones(5).half(), torch.ones(5000), torch.ones(7).half()])
    assert [launch[0] for launch in gpu.launches] == [3, 2]


def test_views_that_begin_anywhere_are_loaded_element_by_element(gpu: FakeGPU) -> None:
    view = torch.ones(9000)[1:]
    FusedMeter(CPU).measure(view)
    FusedMeter(CPU).measure_all([torch.ones(9000), view])
    (one,), (many,) = compiled(fused_kernels.one), compiled(fused_kernels.many)
    assert len(gpu.launches) == 2
    assert "ld.global.v" not in one + many


def test_a_launch_that_fails_takes_no_other_row_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(elements: Tensor, _numel: int, slots: Tensor, first: int, _size: int, **_options: Any) -> None:
        if len(elements) == 5:
            raise RuntimeError("out of resources")
        slots[first] = torch.tensor([elements.sum(), elements.square().sum(), elements.min(), elements.max()])

    monkeypatch.setattr(fused, "one", {(1,): launch})
    meter = FusedMeter(CPU)
    meter.measure(torch.ones(3))
    with pytest.raises(RuntimeError):
        meter.measure(torch.ones(5))
    assert meter.measure(torch.full((7,), 2.0)) == 2
    rows = meter.send().read()
    assert rows[[0, 2], 0].tolist() == [3, 7]
    assert rows[[0, 2], 4].tolist() == [1, 2]


def test_large_tensors_are_shared_by_a_bounded_number_of_programs(gpu: FakeGPU) -> None:
    FusedMeter(CPU).measure(torch.empty(1, dtype=torch.half).expand(1 << 33).as_strided((1 << 33,), (0,)))
    assert gpu.launches[0][0] == fused.MOST_PARTS


@pytest.mark.parametrize("device", ["cpu", "meta", "cuda:77", "xpu"])
def test_what_cannot_be_measured_is_not_available(device: str) -> None:
    assert not fused.available(torch.device(device))


def test_a_kernel_that_does_not_compile_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_supported", lambda _device: True)
    assert not fused.available(torch.device("cuda", 78))


def test_without_triton_the_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gradscope.hooks.meters.fused", "gradscope.hooks.meters.fused_kernels"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="triton"):
        importlib.import_module("gradscope.hooks.meters.fused")


@contextmanager
def without_waiting() -> Iterator[None]:
    """Make any wait for the GPU an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def busy() -> None:
    """Keep the current stream at work for some tens of milliseconds."""
    torch.cuda._sleep(50_000_000)


@needs_gpu
def test_a_gpu_is_available() -> None:
    assert fused.available(GPU)


def three_steps(meter: FusedMeter) -> list[Pending]:
    pending = []
    for step in range(3):
        flat = torch.full((100_000,), float(step), device=GPU)
        meter.measure(flat)
        meter.measure_all([flat + 10, (flat + 20).half()])
        del flat
        torch.full((100_000,), 99.0, device=GPU)  # takes the memory that was just given back
        pending.append(meter.send())
    return pending


@needs_gpu
def test_nothing_waits_and_rows_are_read_later() -> None:
    meter = FusedMeter(GPU)
    three_steps(meter)[-1].read()  # compiles, loads and takes memory, for which CUDA itself may wait
    busy()
    with without_waiting():
        pending = three_steps(meter)
        assert not pending[0].ready()
    torch.cuda.synchronize()
    assert all(sending.ready() for sending in pending)
    for step, sending in enumerate(pending):
        assert sending.read()[:, 4].tolist() == [step, step + 10, step + 20]


def steps_on_two_streams(meter: FusedMeter, side: torch.cuda.Stream) -> list[Pending]:
    pending = []
    for step in range(2):
        with torch.cuda.stream(side):
            meter.measure(torch.full((100_000,), step + 0.25, device=GPU))
        meter.measure(torch.full((100_000,), step + 0.5, device=GPU))
        with torch.cuda.stream(side):
            meter.measure_all([torch.full((9,), step + 0.75, device=GPU)])
        pending.append(meter.send())
    return pending


@needs_gpu
def test_streams_do_not_wait_for_each_other() -> None:
    meter, side = FusedMeter(GPU), torch.cuda.Stream()
    steps_on_two_streams(meter, side)[-1].read()
    with torch.cuda.stream(side):
        busy()
    with without_waiting():
        pending = steps_on_two_streams(meter, side)
    torch.cuda.current_stream().synchronize()
    assert not pending[0].ready()
    for step, sending in enumerate(pending):
        assert sending.read()[:, 4].tolist() == [step + 0.25, step + 0.5, step + 0.75]


@needs_gpu
def test_the_same_bits_on_every_run() -> None:
    flat = torch.randn(10_000_003, device=GPU)
    meter = FusedMeter(GPU)
    meter.measure_all([flat, flat])
    meter.measure(flat)
    rows = meter.send().read()
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])
    assert rows[0, 2] == pytest.approx(float(flat.double().square().sum()), rel=1e-6)
