"""Who used each gradient last: a gradient that steps use twice is told from one that has come anew."""

from dataclasses import dataclass, field
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks.copies import save, unchanged
from gradscope.hooks.marks import version
from gradscope.hooks.registry import NOBODY, Indices

MANY = 64


class Witness:
    """A gradient when an optimizer used it: the same later is the same object, not written to, of equal values."""

    def __init__(self, gradient: Tensor) -> None:
        self._gradient, self._version = ref(gradient), version(gradient)
        self._values = save([gradient])[0]

    def same(self, gradient: Tensor | None) -> bool:
        """Whether this is that gradient, and nobody has changed it. Waits for a device."""
        if gradient is None or self._gradient() is not gradient or version(gradient) != self._version:
            return False
        return unchanged(gradient, self._values) and bool(gradient.any())


@dataclass
class Uses:
    """The last use of each parameter's gradient, by the parameter's index: by which optimizer, and when."""

    _by: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _when: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _clock: int = 0
    _began: dict[int, int] = field(default_factory=dict)
    _witnesses: dict[int, tuple[int, Witness]] = field(default_factory=dict)
    _latest: dict[int, tuple[Indices, int]] = field(default_factory=dict)

    def forget(self, parameters: int) -> None:
        """The parameters are others now, and so many."""
        self._by, self._when = np.zeros(parameters, np.int64), np.zeros(parameters, np.int64)
        self._witnesses.clear()
        self._latest.clear()

    def begins(self, owner: int) -> None:
        """An optimizer begins its step; what is used until it ends is used by the optimizers that it calls."""
        if len(self._began) >= MANY:
            self._began.clear()
        self._began[owner] = self._clock

    def note(self, indices: Indices, owner: int, sample: tuple[int, Tensor] | None) -> None:
        """An optimizer has used these gradients, of which `sample` is one with the index of its parameter."""
        known = self._latest.get(owner)
        if len(self._latest) >= MANY or (known is not None and known[0] is not indices):
            self._settle()
        self._latest[owner] = indices, self._clock
        self._clock += 1
        if len(self._witnesses) >= MANY:
            self._witnesses.clear()
        if sample is not None:
            self._witnesses[owner] = sample[0], Witness(sample[1])

    def _settle(self) -> None:
        """Write down the uses that were noted lately: mostly the next step of an optimizer uses the same ones anew."""
        for owner, (indices, when) in sorted(self._latest.items(), key=lambda item: item[1][1]):
            self._by[indices], self._when[indices] = owner, when
        self._latest.clear()

    def by_itself(self, indices: Indices, owner: int, tensors: list[Tensor]) -> Indices:
        """Those that the optimizer itself used in its last step, if its witness says that none has come anew."""
        self._settle()
        index, witness = self._witnesses.get(owner, (-1, None))
        mine = np.asarray(indices[self._by[indices] == owner])
        same = witness is not None and index in mine and witness.same(tensors[index].grad)
        return mine if same else NOBODY

    def by_others(self, indices: Indices, owner: int) -> Indices:
        """Those that another optimizer had used before this one began its step."""
        self._settle()
        others = (self._by[indices] != owner) & (self._by[indices] != 0)
        return np.asarray(indices[others & (self._when[indices] < self._began.get(owner, 0))])
