"""The contract of a meter, and rows that are on the host already."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from gradscope.records import UNMEASURED, Floats


class Pending(Protocol):
    """Rows on their way to the host."""

    def ready(self) -> bool:
        """Whether reading would not wait."""

    def read(self) -> Floats:
        """Stored statistics of shape (rows, 5). Waits when they are not `ready`."""


class Meter(Protocol):
    """Reduces the tensors of one device. Rows are counted from the last sending on."""

    @property
    def used(self) -> int:
        """How many rows wait to be sent."""

    def measure(self, flat: Tensor) -> int:
        """Start measuring the elements of a flat, real tensor that holds at least one. Returns its row."""

    def measure_all(self, flats: Sequence[Tensor]) -> list[int]:
        """The same for many tensors at once."""

    def send(self) -> Pending:
        """Start copying all rows to the host; their memory is free again."""


class OnHost:
    """Rows that are on the host, and whether no tensor behind them held NaN or Inf."""

    def __init__(self, rows: bytearray, finite: bool) -> None:
        self._rows = rows
        self.finite = finite

    def ready(self) -> bool:
        """They are."""
        return True

    def read(self) -> Floats:
        """The rows, of shape (rows, 5)."""
        return np.frombuffer(self._rows).reshape(-1, len(UNMEASURED))
