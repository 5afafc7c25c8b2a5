"""Calls back when training begins: before that nothing of ours has to be loaded."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("__init__", "__setstate__")  # as of one that is copied, or comes from another process


def when_training_begins(then: "Callable[[list[Tensor]], object]") -> Callable[[], None]:
    """Call `then` right before the first optimizer is made or, if parameters are trained without one, with those.

    It may not raise. Returns what calls this off.
    """
    from gradscope.hooks.by_hand import ByHand

    def made() -> None:
        by_hand.stop()
        then([])

    def moved(parameters: "list[Tensor]") -> None:
        wait_no_more()
        then(parameters)

    def call_off() -> None:
        by_hand.stop()
        wait_no_more()

    by_hand, wait_no_more = ByHand(moved), when_first_optimizer(made)
    by_hand.start()
    return call_off


def when_first_optimizer(then: Callable[[], object]) -> Callable[[], None]:
    """Call `then` right before the first optimizer is made. It may not raise. Returns what calls this off."""
    from torch.optim.optimizer import Optimizer

    originals = {name: vars(Optimizer)[name] for name in METHODS}
    waiting = [True]

    def call_off() -> None:
        waiting.clear()
        for name, original in originals.items():
            if vars(Optimizer)[name] is ours[name]:
                setattr(Optimizer, name, original)

    def arrived() -> None:
        if waiting:
            call_off()
            then()

    ours = {name: _calling(name, original, arrived) for name, original in originals.items()}
    for name, wrapper in ours.items():
        setattr(Optimizer, name, wrapper)
    return call_off


def _calling(name: str, original: Callable[..., None], arrived: Callable[[], None]) -> Callable[..., None]:
    @wraps(original)
    def method(optimizer: Any, *args: Any, **options: Any) -> None:
        arrived()
        current = _current(name)
        (original if current is method else current)(optimizer, *args, **options)

    return method


def _current(name: str) -> Callable[..., None]:
    """What the class has now: `arrived` may have put something else in our place."""
    from torch.optim.optimizer import Optimizer

    found: Callable[..., None] = vars(Optimizer)[name]
    return found
