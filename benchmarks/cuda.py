"""What watching costs on a GPU, in a few minutes: `python -m benchmarks.cuda` prints a Markdown report.

Bare and watched blocks of steps take turns in one process, so that a slow minute of the machine hits both; a watched
block is compared with the bare ones before and after it. A block begins and ends with an idle GPU.
"""

import argparse
import gc
import platform
import shutil
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.architectures.compat import ensure_operators
from benchmarks.workloads import WORKLOADS
from gradscope.scope import Scope, watch

BLOCK_SECONDS = 0.5
LONG_SECONDS = 10.0
MOST_STEPS = 500
FIRST_STEPS = 3  # not timed: kernels are compiled and memory is taken, and the first watched step is traced
LONG_AGO = 10**9
NOT_KNOWN = "not known: it cannot be built here, or its bare step waits"
DTYPES = (torch.float32, torch.bfloat16)
SIZES = tuple(10**power for power in range(3, 9))
MANY = (1000, 10_000)  # tensors, elements of each

Step = Callable[[], None]
Loss = Callable[[nn.Module], Tensor]


class Program(NamedTuple):
    """A workload, and how to build its model and its loss on the current default device."""

    name: str
    build: Callable[[], tuple[nn.Module, Loss]]


class Way(NamedTuple):
    """A way to watch. `long`: measured in one long run, the dense first steps included."""

    name: str
    enter: Callable[[nn.Module], Scope]
    long: bool = False


def resnet18() -> tuple[nn.Module, Loss]:
    """ResNet-18, 256 images of 224 px."""
    ensure_operators()
    import torchvision  # noqa: PLC0415  only this workload needs it

    images, labels = torch.randn(256, 3, 224, 224), torch.randint(1000, (256,))
    return torchvision.models.resnet18(), lambda model: cross_entropy(model(images), labels)


def gpt2() -> tuple[nn.Module, Loss]:
    """GPT-2 of 12 layers, 768 wide, on 8 sequences of 1024 tokens."""
    ensure_operators()
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  only this workload needs it

    tokens = torch.randint(50_257, (8, 1024))
    return GPT2LMHeadModel(GPT2Config()), lambda model: model(tokens, labels=tokens).loss


def mlp() -> tuple[nn.Module, Loss]:
    """13 linear layers, 4096 wide, 8192 rows."""
    rows = torch.randn(8192, 4096)
    layers = [layer for _ in range(13) for layer in (nn.Linear(4096, 4096), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), lambda model: model(rows).square().mean()


PROGRAMS = (
    Program("ResNet-18, 256 x 224 px", resnet18),
    Program("GPT-2 small, 8 x 1024 tokens", gpt2),
    Program("MLP, 13 x 4096, 8192 rows", mlp),
    *(Program(f"{workload.name} of the CPU's table", workload.build) for workload in WORKLOADS),
)
WAYS = (
    Way("observed", lambda model: watch(model, every=1)),
    Way("between observed steps", lambda model: watch(model, every=LONG_AGO)),
    Way("default, one run", watch, long=True),
)


def main() -> int:
    """Print the report. Returns the exit status: 1 when a watched step waits for the GPU."""
    parser = argparse.ArgumentParser(description="Measure on a GPU what watching costs.")
    parser.add_argument("--pairs", type=int, default=9, help="watched blocks of each way")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        _say("No CUDA device here: nothing was measured.")
        return 0
    torch.set_float32_matmul_precision("high")
    _say(f"{machine()}\n\n## A step, as a ratio to the bare one\n")
    _row("", "bare ms", *(way.name for way in WAYS))
    _say("|---" * (2 + len(WAYS)) + "|")
    for program in PROGRAMS:
        _row(program.name, *steps(program, options.pairs))
    _say("\n## The kernel, and `Tensor.sum`, launches included\n")
    kernel_table()
    _say("\n## Does a watched step wait for the GPU?\n")
    answers = [waits(program) for program in PROGRAMS]
    for program, answer in zip(PROGRAMS, answers, strict=True):
        _say(f"- {program.name}: {answer or 'no'}")
    return int(any(answer not in {"", NOT_KNOWN} for answer in answers))


def machine() -> str:
    """What this was measured on."""
    properties = torch.cuda.get_device_properties(0)
    memory = properties.total_memory / 2**30
    return (
        f"{properties.name} ({memory:.0f} GiB, {properties.multi_processor_count} multiprocessors, "
        f"compute capability {properties.major}.{properties.minor}), driver {_driver()}, CUDA {torch.version.cuda}, "
        f"torch {torch.__version__}, Triton {_triton()}, Python {platform.python_version()}, {platform.machine()}"
    )


def _driver() -> str:
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown"
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")[0]  # noqa: S603  a fixed command


def _triton() -> str:
    try:
        import triton  # noqa: PLC0415  not everybody has it
    except ImportError:
        return "absent"
    return str(triton.__version__)


def _row(*cells: str) -> None:
    _say(f"| {' | '.join(cells)} |")


def _say(text: str) -> None:
    print(text, flush=True)


def steps(program: Program, pairs: int) -> list[str]:
    """The cells of one workload."""
    try:
        model, step = built(program)
        bare = block(step, FIRST_STEPS)
        cells = [f"{1000 * bare:.2f}"]
        for way in WAYS:
            count = max(FIRST_STEPS, min(MOST_STEPS, int((LONG_SECONDS if way.long else BLOCK_SECONDS) / bare)))
            found = list(ratios(step, partial(way.enter, model), count, 1 if way.long else pairs))
            cells.append(f"{found[0]:.3f} ({count} steps)" if way.long else _quartiles(found))
    except (ImportError, torch.cuda.OutOfMemoryError) as error:
        return [f"left out: {str(error).splitlines()[0]}"]
    return cells


def built(program: Program) -> tuple[nn.Module, Step]:
    """A model on the GPU and its training step."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.manual_seed(0)
    with torch.device("cuda"):
        model, loss = program.build()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    return model, step


def ratios(step: Step, enter: Callable[[], AbstractContextManager[object]], count: int, pairs: int) -> Iterator[float]:
    """Watched blocks of `count` steps over the mean of the bare blocks around each."""
    before = block(step, count)
    for _ in range(pairs):
        with enter():
            watched = block(step, count)
        after = block(step, count)
        yield 2 * watched / (before + after)
        before = after


def block(step: Step, count: int) -> float:
    """Seconds of a step, over a block, after the first steps."""
    for _ in range(FIRST_STEPS):
        step()
    gc.collect()
    torch.cuda.synchronize()
    start = perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (perf_counter() - start) / count


def _quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def kernel_table() -> None:
    """Print the time and the throughput of the fused kernel and of `sum` for tensors of all sizes."""
    try:
        from gradscope.hooks.meters.fused import FusedMeter  # noqa: PLC0415  it needs Triton
    except ImportError:
        _say("Triton is not installed: there is no such kernel here.")
        return
    meter = FusedMeter(torch.device("cuda"))
    _row("dtype", "elements", "sum µs", "GB/s", "kernel µs", "GB/s", "kernel / sum")
    _say("|---" * 7 + "|")
    for dtype in DTYPES:
        for size in SIZES:
            flat = torch.randn(size, device="cuda", dtype=dtype)
            count = 300 if size < 10**6 else 30
            plain, fused = call(flat.sum, count), call(partial(meter.measure, flat), count, meter.send)
            _row(_name(dtype), f"{size:.0e}", *_compared(plain, fused, flat.nbytes))
        flats = [torch.randn(MANY[1], device="cuda", dtype=dtype) for _ in range(MANY[0])]
        plain = call(partial(torch._foreach_norm, flats), 3)  # noqa: SLF001  the fastest that torch has for many
        fused = call(partial(meter.measure_all, flats), 3, meter.send)
        name = f"{_name(dtype)}, `_foreach_norm` instead of `sum`"
        _row(name, f"{MANY[0]} x {MANY[1]:.0e}", *_compared(plain, fused, sum(flat.nbytes for flat in flats)))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _compared(plain: float, fused: float, size: int) -> list[str]:
    cells = [f"{number:.1f}" for seconds in (plain, fused) for number in (1e6 * seconds, 1e-9 * size / seconds)]
    return [*cells, f"{fused / plain:.2f}"]


def call(function: Callable[[], object], count: int, after: Callable[[], object] = torch.cuda.synchronize) -> float:
    """Seconds of a call: the median of several rows of `count` calls, with `after` behind each row, not timed."""
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = perf_counter()
        for _ in range(count):
            function()
        torch.cuda.synchronize()
        seconds.append((perf_counter() - start) / count)
        after()
    return statistics.median(seconds[1:])


def waits(program: Program) -> str:
    """Whether torch catches a watched step waiting: at what; empty when not."""
    try:
        model, step = built(program)
        step()
    except (ImportError, torch.cuda.OutOfMemoryError):
        return NOT_KNOWN
    if caught(step):
        return NOT_KNOWN
    with watch(model, every=1) as scope:
        for _ in range(FIRST_STEPS):
            step()
        known = len(scope.recording.lost)  # an error in a hook does not reach the loop
        return caught(step) or caught(step) or "; ".join(scope.recording.lost[known:])


def caught(step: Step) -> str:
    """What a step waits for the GPU with; empty when it does not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


if __name__ == "__main__":
    sys.exit(main())
