"""How the cost of watching grows: with the model, with the steps and with the batch. `python -m benchmarks.growth`.

Prints three tables; docs/cost.md says what they should look like. Takes about 10 minutes.
"""

import multiprocessing
import resource
import statistics
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import perf_counter
from typing import ParamSpec, TypeVar

import psutil
import torch

from benchmarks.aside import Aside
from benchmarks.cost import machine, markdown
from benchmarks.timing import WARM_UP, Program, Step, Way, bare_seconds, keep_memory, stretches, timed, turns_of
from benchmarks.ways import BETWEEN, FULL, LIMIT
from benchmarks.workloads import Workload, mlp, small
from gradscope.scope import watch

MODULES_OF_A_BLOCK = 4
WIDTH = 8
ROWS = 64
SETTLED = 1000
SAMPLED = 100
MEASURED = 40
FEW_MODULES = 2000

SIZE_HEAD = ["modules", "sites", "attach", "a module"] + [
    head for what in ("first step", "observed step", "between", "peak memory") for head in (what, "a site")
]

Given = ParamSpec("Given")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Grown:
    """What watching a model of some size takes: seconds, and numbers of modules and sites."""

    modules: int
    sites: int
    attach: float
    first: float
    observed: float
    between: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = _options(arguments)
    print(machine(1))
    print(f"\n{with_size(options.sizes)}", flush=True)
    print(f"\n{with_steps(options.steps)}", flush=True)
    print(f"\n{with_batch(options.batches)}", flush=True)


def _options(arguments: Sequence[str] | None) -> "_Options":
    parser = ArgumentParser(description="How the cost of watching grows with the model, the steps and the batch.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="numbers of modules")
    parser.add_argument("--steps", type=int, default=10_000, help="how long the memory is looked at")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16], help=f"batches, in {ROWS} rows")
    return parser.parse_args(arguments, namespace=_Options())


class _Options:
    sizes: list[int]
    steps: int
    batches: list[int]


def with_size(sizes: Sequence[int]) -> str:
    """Time and memory by the number of modules."""
    rows = [SIZE_HEAD]
    for size in sizes:
        grown = alone(growth, size)
        peak = max(0, alone(peak_bytes, size, watched=True) - alone(peak_bytes, size, watched=False))
        parts = [(grown.attach, grown.modules)]
        parts += [(seconds, grown.sites) for seconds in (grown.first, grown.observed, grown.between)]
        timings = [text for seconds, count in parts for text in (_ms(seconds), _us(seconds / count))]
        memory = [f"{peak / 2**20:.1f} MB", f"{peak / 2**10 / grown.sites:.1f} kB"]
        rows.append([f"{grown.modules}", f"{grown.sites}", *timings, *memory])
    return markdown(rows)


def with_steps(steps: int) -> str:
    """Resident memory of a small net over many steps."""
    rows = [["", "steps", f"after {SETTLED}", "most after that", "growth"]]
    for name, every in (("every step observed", 1), ("default", None)):
        resident = alone(resident_bytes, steps, every)
        settled, most = resident[SETTLED // SAMPLED - 1], max(resident[SETTLED // SAMPLED - 1 :])
        sizes = [f"{size / 2**20:.1f} MB" for size in (settled, most, most - settled)]
        rows.append([name, f"{steps}", *sizes])
    return markdown(rows)


def with_batch(batches: Sequence[int]) -> str:
    """What an observed step takes beyond a bare one, next to what one read of the same tensors takes."""
    rows = [["rows", "bare step", "observed step takes more", "one read takes more", "observed / one read"]]
    for batch in batches:
        bare, observed, read = alone(batch_costs, batch * ROWS)
        rows.append([f"{batch * ROWS}", _ms(bare), _ms(observed), _ms(read), f"{observed / read:.2f}"])
    return markdown(rows)


def alone(function: Callable[Given, Found], *arguments: Given.args, **options: Given.kwargs) -> Found:
    """What the function returns in a process of its own, with a heap that nobody has used before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        max_workers=1, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        return pool.submit(function, *arguments, **options).result()


def growth(size: int) -> Grown:
    """Watch a model of about so many modules."""
    keep_memory()
    _first_time()
    program, repeats = _sized(size), MEASURED if size < FEW_MODULES else MEASURED // 4
    bare = bare_seconds(program)
    start = perf_counter()
    with watch(program.model, every=1) as scope:
        attach = perf_counter() - start
        first = timed(program.step) - bare
        sites = len(scope.recording.sites)
    observed, between = (extra(program, way, repeats) for way in (FULL, BETWEEN))
    return Grown(len(list(program.model.modules())), sites, attach, first, observed, between)


def extra(program: Program, way: Way, repeats: int) -> float:
    """The seconds that a step takes more than the bare steps right before and after it, in the median."""
    turns = turns_of(bare_seconds(program))
    with Aside() as aside, way.enter(program) as step:
        _repeat(step, WARM_UP)
        found = islice(stretches(program.step, step, aside, turns), repeats)
        return statistics.median((each.watched - each.bare) / each.steps for each in found)


def peak_bytes(size: int, *, watched: bool) -> int:
    """The most memory this process ever had, after some steps, all of them observed or all of them bare."""
    program = _sized(size)
    if watched:
        with watch(program.model, every=1):
            _repeat(program.step, WARM_UP)
    else:
        _repeat(program.step, WARM_UP)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)


def resident_bytes(steps: int, every: int | None) -> list[int]:
    """The process's memory every so many steps of a small net."""
    program, process = _sized(10 * MODULES_OF_A_BLOCK), psutil.Process()
    found = []
    with watch(program.model, every=every):
        for _ in range(steps // SAMPLED):
            _repeat(program.step, SAMPLED)
            found.append(process.memory_info().rss)
    return found


def batch_costs(rows: int) -> tuple[float, float, float]:
    """Seconds of a bare step of the MLP, and what an observed step and one read of everything take more."""
    keep_memory()
    program = Program(Workload("MLP", partial(mlp, rows)))
    bare = bare_seconds(program)
    return bare, extra(program, FULL, 5 * MEASURED), extra(program, LIMIT, 5 * MEASURED)


def _first_time() -> None:
    """Take what only the first watched step of a process takes."""
    program = _sized(1)
    with watch(program.model, every=1):
        program.step()


def _sized(modules: int) -> Program:
    return Program(Workload("small", partial(small, max(1, modules // MODULES_OF_A_BLOCK), WIDTH)))


def _repeat(step: Step, count: int) -> None:
    for _ in range(count):
        step()


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.2f} us"


if __name__ == "__main__":
    main()
