"""Whose turns make a step: the optimizers that step right after one another."""

from weakref import ref

from torch.optim.optimizer import Optimizer

from gradscope.hooks.scaling import overflow_of, scaled
from gradscope.records import StepEnd


class Turns:
    """Keeps count of them, and keeps none of them alive."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._now: dict[int, ref[Optimizer]] = {}
        self._number = 0
        self._skips = False

    def __contains__(self, optimizer: Optimizer) -> bool:
        """Whether it has stepped in this step."""
        return id(optimizer) in self._now

    def take(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""
        self._known.add(id(optimizer))
        self._now[id(optimizer)] = ref(optimizer)
        self._number += 1

    def end(self, end: StepEnd) -> None:
        """The step is over."""
        self._skips |= end is StepEnd.CLEARED
        self._now.clear()
        self._number = 0

    def all(self, last: Optimizer) -> list[Optimizer]:
        """The optimizers whose turns made a step that the last of them has ended, if these are all there are.

        None of them where a loss scaler may leave steps out, which nobody would notice at rest.
        """
        stepped = [optimizer for known in self._now.values() if (optimizer := known()) is not None]
        if self._skips or any(overflow_of(optimizer) is not None for optimizer in stepped) or stepped[-1:] != [last]:
            return []
        everybody = self._known == self._now.keys() and self._number == len(stepped)
        return stepped if everybody and not scaled() else []
