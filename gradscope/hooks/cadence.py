"""Which steps are observed: the first ones, then as often as the budget allows, densely after a finding.

The budget is an account. Each step pays in its share of time; each observed step takes out what it has cost. A step
is observed when the account covers its price. So what the beginning has cost is paid back later, a dear model is
observed rarely, and whatever becomes slower or faster shows in the next steps.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import fmean, median, pstdev

FIRST = 20
DENSE = 5
RAREST = 1000
LONGEST_DEBT = 500
WINDOW = 15
ENOUGH = 5


@dataclass
class Cadence:
    """Decides for each step whether statistics are taken.

    `every` fixes the cadence (1: each step); None lets `budget`, a share of the step's time, decide it from
    what measuring has cost so far.
    """

    every: int | None = None
    budget: float = 0.02

    def __post_init__(self) -> None:
        self._observed: deque[float] = deque(maxlen=WINDOW)
        self._others: deque[float] = deque(maxlen=WINDOW)
        self._saved: deque[float] = deque(maxlen=WINDOW)
        self._spent: deque[float] = deque(maxlen=WINDOW)
        self._last = 0
        self._account = 0.0
        self._most_debt = 0.0
        self._price = 0.0
        self._dense_until = FIRST

    def observe(self, step: int) -> bool:
        """Whether this step is observed."""
        if self.every is not None:
            return step % self.every == 0
        return step < self._dense_until or step >= self._last + RAREST or self._account >= self._price

    def free(self, step: int) -> int:
        """How many steps after this one will not be observed, as far as can be told."""
        if self.observe(step + 1):
            return 0
        if self.every is not None:
            return self.every - step % self.every - 1
        rate = median(self._saved or (self.budget * median(self._observed or (1.0,)),))
        least = self._last + RAREST - step - 1
        return min(least, max(1, ceil((self._price - self._account) / rate) - 1)) if rate > 0 else least

    def watch_closely(self, step: int) -> None:
        """Observe the next steps densely."""
        self._dense_until = max(self._dense_until, step + DENSE)

    def account(self, step: int, seconds: float, spent: float, observed: bool, times: int = 1) -> float:
        """Learn from a finished step: how long it took in all, and how much of that was ours, as far as we know.

        Or from several, alike and not observed, of which `step` is the last; or from none, but time has passed. Returns
        their cost in seconds. Of an observed step it is no less than what steps that are not observed take less.
        """
        cost = spent
        if observed:
            self._last = step
            self._observed.append(seconds)
            self._spent.append(spent)
            self._price = max(median(self._spent), self._difference())
            cost = max(spent, self._price)
        bare = max(seconds - cost, 0.0)
        saved = self.budget * bare - cost
        if times and not observed:
            self._others.append(seconds / times)
            self._saved.append(saved / times)
        if times:
            self._most_debt = LONGEST_DEBT * self.budget * bare / times
        self._account = min(max(self._account + saved, -self._most_debt), self._price)
        return cost

    def _difference(self) -> float:
        """By how much observed steps have lately been slower than others, less the noise of that; 0 if not known."""
        if min(len(self._observed), len(self._others)) < ENOUGH:
            return 0.0
        slower = median(self._observed) - median(self._others)
        noise = sqrt(sum(pstdev(times, fmean(times)) ** 2 / len(times) for times in (self._observed, self._others)))
        return max(0.0, slower - 2 * noise)
