"""What watching costs: the time of a step, watched in several ways, as a ratio to the bare step. `make bench`.

Bare and watched blocks of steps take turns in one process, so that a slow minute of the machine hits both. The ratio of
each pair of blocks is taken; the table shows their median and quartiles.
"""

import argparse
import platform
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn

from benchmarks.workloads import WORKLOADS, Workload
from gradscope.scope import watch

BLOCK_SECONDS = 0.3
LONG_AGO = 10**9

Before = Callable[[], None]


@dataclass(frozen=True)
class Way:
    """A way to watch: a context around a block of steps that gives what to do before each of them."""

    name: str
    enter: Callable[[nn.Module], AbstractContextManager[Before]]


def nothing() -> None:
    """What most ways do before a step."""


@contextmanager
def full(model: nn.Module) -> Iterator[Before]:
    """Everything, on every step."""
    with watch(model, every=1):
        yield nothing


@contextmanager
def between(model: nn.Module) -> Iterator[Before]:
    """Attached, on steps that are not observed."""
    with watch(model, every=LONG_AGO):
        yield nothing


@contextmanager
def traced(model: nn.Module) -> Iterator[Before]:
    """Every step traced, without statistics."""
    with watch(model, every=LONG_AGO, analyzers=[]) as scope:
        yield scope.trace_next


WAYS = (Way("observed", full), Way("between observed steps", between), Way("traced", traced))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="blocks of each kind")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch uses")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {platform.machine()}, {options.pairs} pairs")
    print("| | bare ms | " + " | ".join(way.name for way in WAYS) + " |")
    print("|---" * (2 + len(WAYS)) + "|")
    for workload in WORKLOADS:
        print(_row(workload, options.pairs), flush=True)


def _row(workload: Workload, pairs: int) -> str:
    torch.manual_seed(0)
    model, loss = workload.build()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    bare, _ = _timed(step, nullcontext(nothing), 5)
    steps = max(3, int(BLOCK_SECONDS / bare))
    cells = [f"{1000 * bare:.2f}"]
    for way in WAYS:
        ratios = [_pair(step, way.enter(model), steps) for _ in range(pairs)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
    return f"| {workload.name} | " + " | ".join(cells) + " |"


def _pair(step: Callable[[], None], way: AbstractContextManager[Before], steps: int) -> float:
    bare, _ = _timed(step, nullcontext(nothing), steps)
    watched, _ = _timed(step, way, steps)
    return watched / bare


def _timed(step: Callable[[], None], way: AbstractContextManager[Before], steps: int) -> tuple[float, float]:
    """Seconds of a step: their median, and their sum over the block."""
    seconds = []
    with way as before:
        step()
        for _ in range(steps):
            before()
            start = perf_counter()
            step()
            seconds.append(perf_counter() - start)
    return statistics.median(seconds), sum(seconds)


if __name__ == "__main__":
    main()
