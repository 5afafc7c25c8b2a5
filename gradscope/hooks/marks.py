"""Which gradients the parameters hold, and how often each was written to, at one moment."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks.meters import host
from gradscope.hooks.registry import Indices


class Marks:
    """(id, version) of each parameter's gradient, (0, 0) where there is none, as bytes: quick to compare."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @classmethod
    def of(cls, parameters: list[Tensor]) -> "Marks":
        """The marks of parameters now."""
        return cls(host.marks(parameters) if host.AVAILABLE else _marks(parameters))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]  # nobody needs them in a set

    @property
    def pairs(self) -> NDArray[np.int64]:
        """As numbers, of shape (parameters, 2)."""
        return np.frombuffer(self.raw, np.int64).reshape(-1, 2)

    @property
    def nothing(self) -> bool:
        """Whether no parameter holds a gradient."""
        return not self.raw.strip(b"\0")

    @property
    def holders(self) -> Indices:
        """The parameters that hold a gradient; of the same ones always the same array."""
        return _where(host.held(self.raw) if host.AVAILABLE else self.present.tobytes())

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which parameters hold a gradient, of shape (parameters,)."""
        return np.asarray(self.pairs[:, 0] != 0)

    @property
    def versions(self) -> NDArray[np.int64]:
        """How often each gradient was written to, of shape (parameters,)."""
        return np.asarray(self.pairs[:, 1])

    def same_as(self, other: "Marks") -> NDArray[np.bool_]:
        """Which are unchanged, of shape (parameters,): the same gradient, not written to, or still none."""
        return np.asarray((self.pairs == other.pairs).all(axis=1))

    def same_object_as(self, other: "Marks") -> NDArray[np.bool_]:
        """Which hold the same gradient, written to or not, of shape (parameters,)."""
        return np.asarray((self.pairs[:, 0] == other.pairs[:, 0]) & self.present)

    def updated(self, newer: "Marks", indices: Indices) -> "Marks":
        """With those of some parameters taken from newer marks."""
        pairs = self.pairs.copy()
        pairs[indices] = newer.pairs[indices]
        return Marks(pairs.tobytes())

    def taken(self, origin: NDArray[np.intp]) -> "Marks":
        """Those of other parameters: of each, where it stood among these; -1 for one that is new."""
        return Marks(np.vstack([self.pairs, np.zeros((1, 2), np.int64)])[origin].tobytes())


@lru_cache(maxsize=8)
def _where(flags: bytes) -> Indices:
    return np.flatnonzero(np.frombuffer(flags, np.bool_))


def _marks(parameters: list[Tensor]) -> bytes:
    pairs = np.zeros((len(parameters), 2), np.int64)
    for pair, parameter in zip(pairs, parameters, strict=True):
        gradient = parameter.grad
        if gradient is not None:
            pair[:] = id(gradient), version(gradient)
    return pairs.tobytes()


def version(tensor: Tensor) -> int:
    """How often a tensor was written to; -1 for inference tensors, which do not count that."""
    return -1 if tensor.is_inference() else tensor._version
