"""Who follows the loop, each for one kind of fault: each hears of what it has a method for, and of nothing else."""

from collections.abc import Callable

from torch.optim.optimizer import Optimizer

from gradscope.hooks.registry import Indices


class Observer:
    """Follows the loop. What a subclass does not override is never called."""

    def run_begins(self) -> None:
        """The run begins."""

    def forward_begins(self) -> None:
        """A module runs while the loop was not in its forward phase."""

    def backward_begins(self) -> None:
        """The first gradient of a backward arrives, and it is known what was cleared before."""

    def backward_ends(self) -> None:
        """A backward is over, and it is known who has received a gradient."""

    def optimizer_stepped(self, optimizer: Optimizer, owned: Indices) -> None:
        """An optimizer, of whatever model, has stepped; `owned` are its parameters in this one."""

    def step_observed(self, owned: Indices) -> None:
        """An optimizer has stepped these parameters in an observed step; the log's last event tells of it."""

    def step_closed(self, step: int) -> None:
        """A step is over."""

    def rest_begins(self) -> None:
        """Nobody hears of backwards from here on."""

    def run_ends(self) -> None:
        """The run is over; here an observer may wait for the device."""


class Observers:
    """For each event, the methods of those that want to hear of it, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self.run_begins = [each.run_begins for each in observers if _hears(each, Observer.run_begins)]
        self.forward_begins = [each.forward_begins for each in observers if _hears(each, Observer.forward_begins)]
        self.backward_begins = [each.backward_begins for each in observers if _hears(each, Observer.backward_begins)]
        self.backward_ends = [each.backward_ends for each in observers if _hears(each, Observer.backward_ends)]
        self.optimizer_stepped = [
            each.optimizer_stepped for each in observers if _hears(each, Observer.optimizer_stepped)
        ]
        self.step_observed = [each.step_observed for each in observers if _hears(each, Observer.step_observed)]
        self.step_closed = [each.step_closed for each in observers if _hears(each, Observer.step_closed)]
        self.rest_begins = [each.rest_begins for each in observers if _hears(each, Observer.rest_begins)]
        self.run_ends = [each.run_ends for each in observers if _hears(each, Observer.run_ends)]


def _hears(observer: Observer, event: Callable[..., None]) -> bool:
    return getattr(type(observer), event.__name__) is not event
