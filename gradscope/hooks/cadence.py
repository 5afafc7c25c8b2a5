"""Which steps are observed: the first ones, then as often as the budget allows, densely after a finding."""

from dataclasses import dataclass
from math import ceil
from statistics import median

FIRST = 20
DENSE = 5
RAREST = 1000
WINDOW = 9


@dataclass
class Cadence:
    """Decides for each step whether statistics are taken.

    `every` fixes the cadence (1: each step); None lets `budget`, a share of the step's time, decide it from
    what measuring has cost so far.
    """

    every: int | None = None
    budget: float = 0.02

    def __post_init__(self) -> None:
        self._costs: list[float] = []
        self._times: list[float] = []
        self._next = 0
        self._dense_until = FIRST

    def observe(self, step: int) -> bool:
        """Whether this step is observed."""
        if self.every is not None:
            return step % self.every == 0
        return step < self._dense_until or step >= self._next

    def watch_closely(self, step: int) -> None:
        """Observe the next steps densely."""
        self._dense_until = max(self._dense_until, step + DENSE)

    def account(self, step: int, seconds: float, spent: float, observed: bool) -> None:
        """Learn from a finished step: how long it took in all, and how much of that was ours."""
        self._times = [*self._times[1 - WINDOW :], max(seconds - spent, 1e-9)]
        if observed:
            self._costs = [*self._costs[1 - WINDOW :], spent]
            self._next = step + self.interval

    @property
    def interval(self) -> int:
        """How many steps from one observed step to the next keep the cost within the budget."""
        share = median(self._costs) / median(self._times)
        return min(RAREST, max(1, ceil(share / self.budget))) if self.budget > 0 else RAREST
