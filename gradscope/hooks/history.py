"""The steps that are over: those whose numbers are still on their way, and the ring of those that are data."""

from collections import deque
from collections.abc import Callable
from time import perf_counter

from gradscope.hooks.cadence import FIRST
from gradscope.hooks.log import Passed, StepLog
from gradscope.records import Step

BYTES = 32_000_000
LONGEST = 1000
SHORTEST = 32
BATCH = 32
PATIENCE = 0.25
HASTE = 8


class History:
    """Turns logs into steps. `sizes` tells how many sites and modules there are by now.

    Calm steps, in which nothing is wrong, become data in batches: nobody waits for them, and one after the other
    they are cheaper than each in the middle of the user's loop.
    """

    def __init__(self, sizes: Callable[[], tuple[int, int]]) -> None:
        self._sizes = sizes
        self._closed: deque[StepLog | Passed] = deque()
        self._steps: deque[Step] = deque()
        self._calm = True
        self._collected = perf_counter()
        self._hasty_until = FIRST
        self._untold: list[Step] = []

    def add(self, log: StepLog | Passed) -> None:
        """A step is over."""
        self._closed.append(log)
        self._calm = self._calm and log.calm()

    def hurry(self, step: int) -> None:
        """The next steps are awaited."""
        self._hasty_until = max(self._hasty_until, step + HASTE)

    def collect(self, *, wait: bool = False) -> list[Step]:
        """The steps that have arrived since this was last asked; with `wait`, all. Calm ones may take their time."""
        if not (wait or self._pressing()):
            return []
        self._arrive(wait=wait)
        told, self._untold = self._untold, []
        return told

    def steps(self) -> tuple[Step, ...]:
        """The last steps, as far as they have arrived."""
        self._arrive(wait=False)
        return tuple(self._steps)

    def _pressing(self) -> bool:
        if not self._closed and not self._untold:
            return False
        if not self._calm or len(self._closed) >= BATCH or perf_counter() >= self._collected + PATIENCE:
            return True
        return bool(self._closed) and self._closed[-1].index <= self._hasty_until

    def _arrive(self, *, wait: bool) -> None:
        while self._closed and (wait or self._closed[0].ready()):
            steps = self._closed.popleft().steps(*self._sizes())
            self._steps.extend(steps)
            self._untold.extend(steps)
        self._calm = not self._closed
        self._collected = perf_counter()
        while len(self._steps) > self._most():
            self._steps.popleft()

    def _most(self) -> int:
        size = 40 * max(1, self._sizes()[0])
        return min(LONGEST, max(SHORTEST, BYTES // size))
