"""What the hooks of modules know from one call to the next, and their short way, for what most modules do.

A tap notes a plain output of a module that it has been told of, and later the gradient for it. It is compiled with the
kernel (meters/tap.c). Where there is none, and for all that is not plain, there is the full way in modules.py.
"""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ReferenceType, ref

from torch import Tensor, nn

from gradscope.hooks.log import StepLog
from gradscope.hooks.marks import version
from gradscope.hooks.modes import ORDINARY
from gradscope.hooks.transfer import Ticket
from gradscope.records import Call

if TYPE_CHECKING:
    from gradscope.hooks.meters import _kernel

Gradients = tuple[Tensor | None, ...]
Places = dict[int, tuple[int, int, int]]  # by a module's id: its row, the site of its output, that of the gradient

FLAGS = int(Call.GRAD | Call.OUTPUT_REQUIRES_GRAD)


class Guard(Protocol):
    """Stands for a view."""

    def still(self) -> bool:
        """Whether it has not been modified."""


class Output(Protocol):
    """A measured output, whose gradient is waited for: a pre-hook of its autograd node.

    `sites` are those that its gradient is measured for, by the module in `row`. A view's gradient may come to its base
    instead: then two hooks share the `fired` backwards, and the base's has a `guard`.
    """

    row: int
    sites: list[int]
    index: int
    fired: set[int] | None
    guard: Guard | None

    def __call__(self, gradients: Gradients) -> None:
        """The gradients of the loss with respect to the node's outputs have arrived."""


FullWay = Callable[[Output, Gradients], None]


class Tap(Protocol):
    """The short way, and what both ways share. `spent` are the seconds that the short way took."""

    listening: bool
    task: int
    spent: float
    called: set[int]
    measured: set[int]
    arrived: list[int]
    passed: list[tuple[Any, int]]

    def connect(self, guard: Callable[[Tensor], Guard], full_way: FullWay, /) -> None:
        """What makes the guard of a view, and what takes a gradient that cannot go the short way."""

    def follow(self, log: StepLog, /) -> None:
        """Write into this log from now on."""

    def forward(self, module: nn.Module, output: Any, /) -> bool:
        """Note what a module has returned; False when the full way has to."""

    def output(self, row: int, sites: list[int], index: int, fired: set[int] | None, guard: Guard | None, /) -> Output:
        """The pre-hook for the autograd node of an output, the `index`th of the node's."""

    def again(self, tensor: Tensor, /) -> tuple[int, Ticket, list[int]] | None:
        """Site, ticket and gradients' sites of the output that was measured last, if this is it, unchanged."""

    def remember(self, tensor: Tensor, site: int, ticket: Ticket, sites: list[int], /) -> None:
        """This output was measured last."""

    def forget(self) -> None:
        """No output was."""


class NoTap:
    """There is no short way: what both ways share, for the full one alone."""

    def __init__(self) -> None:
        self.listening = False
        self.task = -1
        self.spent = 0.0
        self.called: set[int] = set()
        self.measured: set[int] = set()
        self.arrived: list[int] = []
        self.passed: list[tuple[Any, int]] = []
        self._last: tuple[ReferenceType[Tensor], int, tuple[int, Ticket, list[int]]] | None = None

    def connect(self, _guard: Callable[[Tensor], Guard], full_way: FullWay) -> None:
        """Every gradient goes the full way."""
        self._full_way = full_way

    def follow(self, log: StepLog) -> None:
        """The full way knows where to write."""

    def forward(self, _module: nn.Module, _output: Any) -> bool:
        """Never."""
        return False

    def output(self, row: int, sites: list[int], index: int, fired: set[int] | None, guard: Guard | None) -> Output:
        """See `Tap`."""
        return _Output(self._full_way, row, sites, index, fired, guard)

    def again(self, tensor: Tensor) -> tuple[int, Ticket, list[int]] | None:
        """See `Tap`."""
        if self._last is None:
            return None
        known, written, what = self._last
        return what if known() is tensor and written == version(tensor) else None

    def remember(self, tensor: Tensor, site: int, ticket: Ticket, sites: list[int]) -> None:
        """See `Tap`."""
        self._last = ref(tensor), version(tensor), (site, ticket, sites)

    def forget(self) -> None:
        """See `Tap`."""
        self._last = None


class _Output:
    """As the compiled one, and always the full way."""

    __slots__ = ("_full_way", "fired", "guard", "index", "row", "sites")

    def __init__(
        self,
        full_way: FullWay,
        row: int,
        sites: list[int],
        index: int,
        fired: set[int] | None,
        guard: Guard | None,
    ) -> None:
        self._full_way = full_way
        self.row = row
        self.sites = sites
        self.index = index
        self.fired = fired
        self.guard = guard

    def __call__(self, gradients: Gradients) -> None:
        self._full_way(self, gradients)


def tap(rows: "_kernel.Rows | None", places: Places) -> Tap:
    """A tap that measures into these rows; without them one that never takes the short way."""
    if rows is None:
        return NoTap()
    from gradscope.hooks.meters import _kernel  # noqa: PLC0415  where there are rows, it is there

    return _kernel.Tap(rows, places, FLAGS, ORDINARY, perf_counter)
