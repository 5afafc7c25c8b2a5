"""A trace that is over, and how its calls become operations once their measurements have arrived."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gradscope.hooks.frames import Spot, resolve
from gradscope.hooks.transfer import Arrived, Ticket, Transfer
from gradscope.traces import Operand, Operation, Range


@dataclass(slots=True, eq=False)
class Call:
    """An operation in the making."""

    name: str
    module: str
    place: Spot | None
    step: int
    operands: list[Operand]
    grad_enabled: bool
    function: str = ""
    written: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    has_graph: bool = False
    differentiable: bool = True
    is_loss: bool = False
    values: list[Ticket] = field(default_factory=list)
    gradients: list[Ticket] = field(default_factory=list)
    viewed: int | None = None
    backward: int | None = None
    reduction: str = ""


@dataclass(frozen=True, eq=False)
class Traced:
    """A trace that is over, whose measurements may still be on their way.

    `stepped` are the parameters that optimizers have stepped, by step. Of the last step it may still grow.
    """

    calls: list[Call]
    transfer: Transfer
    failure: Call | None
    stepped: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def ready(self) -> bool:
        """Whether reading would not wait."""
        return self.transfer.ready()

    def operations(self) -> tuple[Operation, ...]:
        """What was traced, as data. Waits for what has not arrived."""
        arrived = Arrived([self.transfer])
        made: list[Operation] = []
        for index, call in enumerate(self.calls):
            values = _range(call.values, arrived)
            if values is None and call.viewed is not None:
                values = made[call.viewed].values
            made.append(_operation(index, call, values, _range(call.gradients, arrived)))
        return tuple(made)

    def failed(self) -> Operation | None:
        """The operation that raised."""
        return None if self.failure is None else _operation(len(self.calls), self.failure, None, None)


def losses(operations: Iterable[Operation]) -> dict[int, float]:
    """The loss of each step, as far as it was measured: the sum of all that it had."""
    found: dict[int, float] = {}
    for each in operations:
        if each.is_loss and each.values is not None:
            found[each.step] = found.get(each.step, 0.0) + each.values.high
    return found


def _operation(index: int, call: Call, values: Range | None, gradient: Range | None) -> Operation:
    return Operation(
        index,
        call.name,
        call.module,
        None if call.place is None else resolve(call.place),
        call.step,
        tuple(call.operands),
        call.shapes,
        call.has_graph,
        call.differentiable,
        call.grad_enabled,
        call.is_loss,
        call.function,
        call.written,
        values,
        gradient,
        call.backward,
        call.reduction,
    )


def _range(tickets: list[Ticket], arrived: Arrived) -> Range | None:
    """The extremes over all measurements; NaN in one of them is NaN in all."""
    if not tickets:
        return None
    rows = arrived.rows(tickets)
    return Range(float(rows[:, 3].min()), float(rows[:, 4].max()))
