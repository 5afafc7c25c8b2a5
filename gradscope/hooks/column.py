"""One small number for each parameter, for questions that are asked of all of them together in every step."""

import numpy as np
from numpy.typing import NDArray

from gradscope.hooks.registry import Indices

FEW = 8


class Column:
    """The numbers as an array, and what bytes answer in a fraction of the time that numpy takes."""

    def __init__(self, numbers: NDArray[np.int8]) -> None:
        self._bytes = bytearray(numbers.tobytes())
        self.array = np.frombuffer(self._bytes, np.int8)
        self._everybody: dict[int, Indices] = {}

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, number: int) -> bool:
        """Whether any parameter has this number."""
        return number in self._bytes

    def put(self, indices: Indices, number: int) -> None:
        """Give these parameters this number."""
        if self.are_all(indices):
            self._bytes[:] = bytes([number]) * len(self._bytes)
        else:
            self.array[indices] = number

    def are_all(self, indices: Indices) -> bool:
        """Whether each parameter is among these."""
        if len(indices) != len(self._bytes):
            return False
        if id(indices) not in self._everybody:
            if len(np.unique(indices)) < len(indices):
                return False
            if len(self._everybody) >= FEW:
                self._everybody.clear()
            self._everybody[id(indices)] = indices
        return True
