"""Times steps bare and watched, so close to each other that a slow moment of the machine hits both.

The speed of a shared machine wanders by several percent within seconds, and averaging over a longer block does not
help against that: what helps is a bare step right next to each watched one.
"""

import ctypes
import gc
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import islice
from math import ceil, sqrt
from time import perf_counter

import torch
from torch import Tensor, nn

from benchmarks.aside import Aside, possible
from benchmarks.workloads import Workload

WARM_UP = 25
FEW = 3
FEWEST_BLOCKS = 8
DRAWS = 200
WINDOW = 10
CHANGE_SECONDS = 0.05

Step = Callable[[], None]


class Program:
    """A workload, built and ready to take steps.

    `report` is where a way to watch leaves what it has to say about the run.
    """

    def __init__(self, workload: Workload) -> None:
        torch.manual_seed(0)
        self.model, self._loss = workload.build()
        self.model.train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        self.report: Callable[[], str] = str

    def step(self) -> None:
        """One training step."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def loss(self) -> Tensor:
        """The forward."""
        return self._loss(self.model)

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The trained parameters, by name."""
        return list(self.model.named_parameters())


@dataclass(frozen=True)
class Way:
    """A way to watch: a context that gives the step to take while it is open, and how well it wants to be known."""

    name: str
    enter: Callable[[Program], AbstractContextManager[Step]]
    error: float = 0.01


@dataclass(frozen=True)
class Stretch:
    """Some watched steps between bare ones: the seconds they took, and those that as many bare steps take."""

    watched: float
    bare: float
    steps: int

    @property
    def ratio(self) -> float:
        """How much longer the watched ones take."""
        return self.watched / self.bare


@dataclass(frozen=True)
class Turns:
    """How many watched steps and how many bare ones take turns."""

    watched: int
    bare: int


@dataclass(frozen=True)
class Figure:
    """A ratio to the bare step, between which quartiles it lies, and how many watched steps it stands for."""

    ratio: float
    low: float
    high: float
    steps: int

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


def keep_memory() -> None:
    """Let the allocator keep what it has been given back.

    Otherwise it returns memory to the system and fetches it again, at thousands of page faults a step or at none: that
    hangs on how the heap happens to lie, and makes ten percent of a step of ResNet-18, watched or bare.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**30)


def timed(step: Step) -> float:
    """The seconds that one step takes."""
    start = perf_counter()
    step()
    return perf_counter() - start


def bare_seconds(program: Program) -> float:
    """About how long a bare step takes."""
    return statistics.median([timed(program.step) for _ in range(3 * FEW)][FEW:])


def turns_of(bare: float, watched: int = 1) -> Turns:
    """Turns for a step of so many seconds: as short as can be, and long enough that changing over is not felt.

    The first step after a change finds the caches full of other things, which costs some 50 us. So a step of 50 ms
    alternates with the next one, and shorter steps do so in groups; `watched` are how many watched steps share a bare
    one when single steps alternate.
    """
    group = ceil(CHANGE_SECONDS / bare)
    return Turns(group, group) if group > 1 else Turns(watched, 1)


def steadily(program: Program, way: Way, turns: Turns, seconds: float, most: int) -> Figure:
    """What a step costs in the long run: the median over blocks of so many watched seconds each.

    Analyzers run about once a second. With gradscope's clocks standing still during the bare steps, a block of a
    second holds them once, like any second of an undisturbed run. There are as many blocks as the way's error wants,
    and not more than `most`.
    """
    gc.collect()
    with Aside() as aside, way.enter(program) as step:
        for _ in range(WARM_UP):
            step()
        flow = stretches(program.step, step, aside, turns)
        found = [gathered(flow, seconds) for _ in range(min(FEWEST_BLOCKS, most))]
        while len(found) < most and error([each.ratio for each in found]) > way.error:
            found.append(gathered(flow, seconds))
    return figure([each.ratio for each in found], sum(each.steps for each in found))


def error(ratios: Sequence[float]) -> float:
    """The standard error of the median of some ratios, told from their quartiles."""
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return 1.25 * (high - low) / 1.35 / sqrt(len(ratios))


def wholly(program: Program, way: Way, turns: Turns, steps: int) -> list[Stretch]:
    """A run of so many steps from the first to the last, with all it takes to enter and to leave."""
    gc.collect()
    with Aside() as aside, ExitStack() as stack:
        for _ in range(FEW):
            program.step()
        start = perf_counter()
        step = stack.enter_context(way.enter(program))
        entered = perf_counter() - start
        turns = Turns(min(turns.watched, steps), turns.bare)
        found = list(islice(stretches(program.step, step, aside, turns), ceil(steps / turns.watched)))
        start = perf_counter()
        stack.close()
        return [Stretch(entered + perf_counter() - start, 0.0, 0), *found]


def stretches(bare: Step, step: Step, aside: Aside, turns: Turns) -> Iterator[Stretch]:
    """Watched steps, so many between bare ones, without end."""
    before = _aside(bare, aside, turns.bare)
    while True:
        watched, steps = 0.0, 0
        while steps < turns.watched or not possible():
            watched += timed(step)
            steps += 1
        after = _aside(bare, aside, turns.bare)
        yield Stretch(watched, steps * (before + after) / 2, steps)
        before = after


def gathered(flow: Iterable[Stretch], seconds: float) -> Stretch:
    """The next stretches of so many watched seconds in all, as one."""
    total = Stretch(0.0, 0.0, 0)
    for each in flow:
        total = Stretch(total.watched + each.watched, total.bare + each.bare, total.steps + each.steps)
        if total.watched >= seconds:
            break
    return total


def in_turns(program: Program, ways: Sequence[Way], rounds: int, seconds: float) -> dict[str, Figure]:
    """What a step costs in blocks of about so many seconds, one way after the other, a bare block around each."""
    found: dict[str, list[float]] = {way.name: [] for way in ways}
    counts = dict.fromkeys(found, 0)
    before, _ = _block(program.step, seconds)
    for _ in range(rounds):
        for way in ways:
            with way.enter(program) as step:
                watched, count = _block(step, seconds)
            gc.collect()
            after, _ = _block(program.step, seconds)
            found[way.name].append(2 * watched / (before + after))
            counts[way.name] += count
            before = after
    return {name: figure(ratios, counts[name]) for name, ratios in found.items()}


def figure(ratios: Sequence[float], steps: int) -> Figure:
    """The median and the quartiles of some ratios."""
    if len(ratios) == 1:
        return Figure(ratios[0], ratios[0], ratios[0], steps)
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Figure(middle, low, high, steps)


def total(parts: Sequence[Stretch]) -> Figure:
    """The ratio of all seconds to all bare seconds.

    There is one such ratio, so its quartiles are those of other runs that might have been: drawn from this one, each
    part from among its neighbours, because the first steps are not like the later ones.
    """
    once = [part for part in parts if not part.steps]
    steps = [part for part in parts if part.steps]
    windows = [steps[i : i + WINDOW] for i in range(0, len(steps), WINDOW)]
    draw = random.Random(0)  # noqa: S311  no secrets here
    drawn = [
        _ratio([*once, *(part for window in windows for part in draw.choices(window, k=len(window)))])
        for _ in range(DRAWS)
    ]
    low, _, high = statistics.quantiles(drawn, n=4)
    return Figure(_ratio(parts), low, high, sum(part.steps for part in parts))


def _ratio(parts: Sequence[Stretch]) -> float:
    return sum(part.watched for part in parts) / sum(part.bare for part in parts)


def _aside(bare: Step, aside: Aside, count: int) -> float:
    """Seconds of a bare step; of several, the first one after the change is not counted."""
    with aside.out():
        if count > 1:
            bare()
        return sum(timed(bare) for _ in range(count)) / count


def _block(step: Step, seconds: float) -> tuple[float, int]:
    """Seconds of a step, and of how many, in a block of at least so many seconds after a step that is not counted."""
    step()
    total, count = 0.0, 0
    while total < seconds:
        total += timed(step)
        count += 1
    return total / count, count
