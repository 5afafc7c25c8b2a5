"""Training without an optimizer: told by parameters that have moved from one backward to the next."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from gradscope.hooks.statistics import begins_with, out_of_sight, some

MOST_BACKWARDS = 100
FEW = 8

Moved = Callable[[list[Tensor]], object]


class ByHand:
    """Between `start` and `stop`, looks at the parameters of each backward before it runs.

    Calls `then`, which may not raise, with those of the first one when some of them have moved since, and has stopped
    by then. It also stops when so many backwards have moved nothing, as those of a program that explains a model.
    """

    def __init__(self, then: Moved) -> None:
        self._then = then
        self._original = self._ours = torch.autograd.backward
        self._known: list[tuple[ReferenceType[Tensor], int, Tensor | None]] = []
        self._left = 0

    def start(self) -> None:
        """Begin to look."""
        self._left = MOST_BACKWARDS
        self._original = torch.autograd.backward
        self._ours = self._looking(self._original)
        torch.autograd.backward = self._ours

    def stop(self) -> None:
        """Look no more. What others have wrapped around our wrapper meanwhile stays as it is, and ours does nothing."""
        self._left = 0
        self._known.clear()
        if torch.autograd.backward is self._ours:
            torch.autograd.backward = self._original

    def _looking(self, original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            if self._left:
                self._look(tensors)
            original(tensors, *args, **options)

        return backward

    def _look(self, tensors: Any) -> None:
        try:
            with out_of_sight():
                moved = self._moved()
                if not self._known:
                    given = (tensors,) if isinstance(tensors, Tensor) else tensors
                    self._known = [(ref(leaf), leaf._version, some(leaf)) for leaf in leaves(given)]
            self._left -= 1
        except Exception:  # noqa: BLE001  the program's backward is to run, whatever befalls us
            moved, self._left = [], 0
        if moved or not self._left:
            self.stop()
        if moved:
            self._then(moved)

    def _moved(self) -> list[Tensor]:
        """All parameters of the first backward, if one of them is not as it was then."""
        alive = [(leaf, written, values) for known, written, values in self._known if (leaf := known()) is not None]
        stirred = any(leaf._version != written for leaf, written, _ in alive) or any(
            not begins_with(leaf, values)
            for leaf, _, values in alive[:FEW]  # which waits for a device
        )
        return [leaf for leaf, _, _ in alive] if stirred else []


def leaves(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The leaves into which the backward of these tensors adds gradients."""
    nodes: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen = set(nodes)
    for node in nodes:  # it grows meanwhile
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        new = dict.fromkeys(above for above, _ in node.next_functions if above is not None and above not in seen)
        seen.update(new)
        nodes.extend(new)
