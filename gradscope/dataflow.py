"""How values flow through traced operations: from where, to where, and through which views. Pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from gradscope.traces import Operand, Operation

# What passes on the values it is given: another shape, another place or another precision of the same numbers.
VIEWS = frozenset(
    {
        "T",
        "__getitem__",
        "bfloat16",
        "chunk",
        "clone",
        "contiguous",
        "cpu",
        "cuda",
        "double",
        "expand",
        "flatten",
        "float",
        "half",
        "mT",
        "movedim",
        "narrow",
        "permute",
        "ravel",
        "requires_grad_",
        "reshape",
        "select",
        "split",
        "squeeze",
        "squeeze_",
        "swapaxes",
        "t",
        "to",
        "transpose",
        "type",
        "unbind",
        "unflatten",
        "unsqueeze",
        "unsqueeze_",
        "view",
        "view_as",
    }
)


class Flow:
    """The operations of a trace as a graph."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.by_index: Mapping[int, Operation] = {operation.index: operation for operation in operations}

    @cached_property
    def consumers(self) -> Mapping[int, list[Operation]]:
        """For each operation those that use its result."""
        table: dict[int, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            for source in operation.sources:
                table[source].append(operation)
        return table

    @cached_property
    def toward_loss(self) -> frozenset[int]:
        """Indices of the operations whose results flow into a loss, by a graph or not."""
        return self.upstream(operation for operation in self.operations if operation.is_loss)

    def upstream(self, operations: Iterable[Operation]) -> frozenset[int]:
        """Indices of these operations and of all that they are computed from."""
        stack, found = [operation.index for operation in operations], set[int]()
        while stack:
            index = stack.pop()
            if index in self.by_index and index not in found:
                found.add(index)
                stack.extend(self.by_index[index].sources)
        return frozenset(found)

    def downstream(self, operations: Iterable[Operation]) -> list[Operation]:
        """These operations and all that are computed from them."""
        stack, found = list(operations), dict[int, Operation]()
        while stack:
            operation = stack.pop()
            if operation.index not in found:
                found[operation.index] = operation
                stack.extend(self.consumers.get(operation.index, ()))
        return list(found.values())

    def origin(self, operand: Operand) -> Operation | None:
        """The operation that computed an operand's values, seen through views and casts; None: not of this trace."""
        while operand.operation in self.by_index:
            operation = self.by_index[operand.operation]
            if operation.name not in VIEWS or not operation.operands:
                return operation
            operand = operation.operands[0]
        return None
