"""How values flow through traced operations: from where, to where, and through which views. Pure functions."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, groupby
from typing import TypeAlias, TypeVar, cast

from gradscope.traces import Operand, Operation

Edge: TypeAlias = tuple[Operand, Operation]
Stranger: TypeAlias = tuple[tuple[int, ...], int]
End: TypeAlias = tuple[int, bool]
Ends: TypeAlias = frozenset[End]
Told = TypeVar("Told")
Beyond: TypeAlias = Callable[[Operand, Operation, Mapping[int, Ends], Collection[int]], Ends]

NOWHERE: Ends = frozenset()
LOSS: End = (-1, False)

# What passes on the values it is given: another shape, another place or another precision of the same numbers.
VIEWS = frozenset(
    {"T", "__getitem__", "bfloat16", "chunk", "clone", "contiguous", "cpu", "cuda", "double", "expand"}
    | {"flatten", "float", "half", "mT", "movedim", "narrow", "permute", "ravel", "requires_grad_"}
    | {"reshape", "select", "split", "squeeze", "squeeze_", "swapaxes", "t", "to", "transpose", "type"}
    | {"unbind", "unflatten", "unsqueeze", "unsqueeze_", "view", "view_as"}
)

# Where values leave torch as a number, a list or an array.
EXITS = frozenset({"item", "tolist", "numpy", "__float__", "__int__", "__array__"})

# They take a tensor out of the graph and keep its values.
DETACHING = frozenset({"data", "detach", "detach_"})

# Whatever they are given, their results begin a graph of their own or have none.
CUTTING = EXITS | DETACHING | {"__deepcopy__", "Parameter", "new_tensor", "tensor"}

# They draw a sample, which has no derivative with respect to what it is drawn from.
SAMPLING = frozenset(
    {"_sample_dirichlet", "_standard_gamma", "bernoulli", "bernoulli_", "binomial", "multinomial", "normal", "poisson"}
)

# Their derivative is zero almost everywhere.
FLAT = SAMPLING.union(
    (f"{name}{end}" for name in ("ceil", "fix", "floor", "round", "sgn", "sign", "trunc") for end in ("", "_")),
    (f"{name}_" for name in ("eq", "ge", "gt", "le", "lt", "ne", "heaviside")),
    (f"{name}(rounding_mode)" for name in ("div", "div_", "divide", "divide_")),
    ("floor_divide", "floor_divide_", "floordiv_", "heaviside", "rfloordiv"),
)

# A reentrant checkpoint, which runs its operations without grad mode and again in backward.
CHECKPOINT = "CheckpointFunction"


class Flow:
    """The operations of a trace as a graph, whose edges lead from an operation to those that use its result."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.by_index: Mapping[int, Operation] = {operation.index: operation for operation in operations}
        self._toward: dict[tuple[int, ...], frozenset[int]] = {}
        self._ends: dict[tuple[int, ...], Mapping[int, Ends]] = {}
        self._final: dict[Ends, Ends] = {}
        self._told: dict[Hashable, tuple[object, ...]] = {}

    @cached_property
    def edges(self) -> Mapping[int, list[Edge]]:
        """For each operation the operands that are its results, each with the operation that uses it."""
        table: dict[int, list[Edge]] = defaultdict(list)
        for operation in self.operations:
            for operand in read(operation):
                if operand.operation is not None:
                    table[operand.operation].append((operand, operation))
        return table

    @cached_property
    def uses(self) -> Mapping[str, list[Edge]]:
        """For each parameter the operands that are it, each with the operation that uses it."""
        table: dict[str, list[Edge]] = defaultdict(list)
        for operation in self.operations:
            for operand in read(operation):
                if operand.parameter:
                    table[operand.parameter].append((operand, operation))
        return table

    @cached_property
    def consumers(self) -> Mapping[int, list[Operation]]:
        """For each operation those that use its result, each once."""
        return {
            index: list({operation.index: operation for _, operation in edges}.values())
            for index, edges in self.edges.items()
        }

    @cached_property
    def losses(self) -> tuple[Operation, ...]:
        """The operations on whose results `backward()` was called."""
        return tuple(operation for operation in self.operations if operation.is_loss)

    @cached_property
    def written(self) -> frozenset[str]:
        """The parameters that the program itself writes to."""
        return frozenset(operation.written for operation in self.operations if operation.written)

    @cached_property
    def toward_loss(self) -> frozenset[int]:
        """Indices of the operations whose results flow into a loss, by a graph or not."""
        return self.toward(self.losses)

    @cached_property
    def recomputed(self) -> frozenset[int]:
        """Indices of the operations in reentrant checkpoints whose result has a graph.

        They ran without grad mode, and backward runs them again with it.
        """
        runs = (list(run) for inside, run in groupby(self.operations, _in_checkpoint) if inside)
        return frozenset(operation.index for run in runs if any(map(self._rejoins, run)) for operation in run)

    @cached_property
    def stretches(self) -> Mapping[int, int]:
        """For each operation that ran without grad mode, where its stretch of such operations began."""
        stretches: dict[int, int] = {}
        for (off, _), run in groupby(self.operations, lambda operation: (not operation.grad_enabled, operation.step)):
            indices = [operation.index for operation in run]
            stretches |= dict.fromkeys(indices, indices[0]) if off else {}
        return stretches

    def once(self, judge: Callable[["Flow"], Iterable[Told]]) -> tuple[Told, ...]:
        """What a judge of these operations alone has to tell. It is asked once: a trace is judged many times."""
        if judge not in self._told:
            self._told[judge] = tuple(judge(self))
        return cast(tuple[Told, ...], self._told[judge])

    def upstream(self, operations: Iterable[Operation], around: Collection[int] = ()) -> frozenset[int]:
        """Indices of these operations and of all that they are computed from, on ways that do not enter `around`."""
        stack, found = [operation.index for operation in operations], set[int]()
        while stack:
            index = stack.pop()
            if index in self.by_index and index not in found and index not in around:
                found.add(index)
                stack.extend(each.operation for each in read(self.by_index[index]) if each.operation is not None)
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

    def connected(self, names: Iterable[str]) -> frozenset[int]:
        """Indices of the operations through whose results a gradient can reach one of these parameters."""
        stack, found = [edge for name in names for edge in self.uses.get(name, ())], set[int]()
        while stack:
            operand, operation = stack.pop()
            if operation.index not in found and self.passes(operand, operation):
                found.add(operation.index)
                stack.extend(self.edges.get(operation.index, ()))
        return frozenset(found)

    def severed(self, names: Collection[str], losses: Sequence[Operation]) -> list[tuple[Operation, bool]]:
        """The operations by which values derived from some parameters leave the graph for good on the way to losses.

        With each, whether the values left as indices beside its result. None when a gradient comes through.
        """
        ends = self._reached(names, losses, self._cut)
        if len(ends) > 1 and LOSS not in ends:
            if ends not in self._final:
                self._final[ends] = self._outermost(names, losses)
            ends = self._final[ends]
        return [] if LOSS in ends else [(self.by_index[index], indices) for index, indices in sorted(ends)]

    def flattened(self, names: Collection[str], losses: Sequence[Operation]) -> list[Operation]:
        """The first operations with a derivative of zero on all ways along the graph from some parameters to losses.

        None when there is a way without.
        """
        ends = self._reached(names, losses, self._flat)
        return [] if LOSS in ends else [self.by_index[index] for index, _ in sorted(ends)]

    def toward(self, losses: Sequence[Operation]) -> frozenset[int]:
        """Indices of the operations whose results flow into these losses, by a graph or not."""
        key = tuple(loss.index for loss in losses)
        if key not in self._toward:
            self._toward[key] = self.upstream(losses)
        return self._toward[key]

    def passes(self, operand: Operand, operation: Operation) -> bool:
        """Whether an operation hands gradients on to an operand."""
        if operation.index in self.recomputed:
            return operand.has_graph or operand.operation in self.recomputed
        return operand.has_graph and operation.has_graph and operation.name not in CUTTING

    def origin(self, operand: Operand) -> Operation | None:
        """The operation that computed an operand's values, seen through views and casts; None: not of this trace."""
        operation = self._maker(operand)
        while operation is not None and operation.name in VIEWS and operation.operands:
            operation = self._maker(operation.operands[0])
        return operation

    def exit(self, operation: Operation) -> Operation:
        """The operation that takes a detached tensor out of torch, if that is all that is done with it."""
        last = operation
        while operation.name in DETACHING and last.name in DETACHING | VIEWS:
            users = [each for each in self.consumers.get(last.index, ()) if each.index in self.toward_loss]
            if len(users) != 1:
                break
            last = users[0]
        return last if last.name in EXITS else operation

    def sample(self, operation: Operation) -> Operation | None:
        """What draws a sample: this operation, or one of the same line and the same stretch without grad mode."""
        if operation.grad_enabled or operation.function:
            return operation if operation.name in SAMPLING else None
        start, place = self.stretches[operation.index], operation.location
        following = [each for each in self.downstream([operation]) if self.stretches.get(each.index) == start]
        drawn = [each for each in following if each.name in SAMPLING and each.location == place]
        return min(
            drawn, key=lambda each: each.index, default=operation if ".sample(" in expression(operation) else None
        )

    def _maker(self, operand: Operand) -> Operation | None:
        return None if operand.operation is None else self.by_index.get(operand.operation)

    def _reached(self, names: Iterable[str], losses: Sequence[Operation], beyond: Beyond) -> Ends:
        """Where the ways from some parameters end, the losses included."""
        key = (*(loss.index for loss in losses), int(beyond == self._flat))
        last, toward = {loss.index for loss in losses}, self.toward(losses)
        if key not in self._ends:
            table: dict[int, Ends] = {}
            for operation in sorted(self.operations, key=lambda each: each.index, reverse=True):
                index = operation.index
                found = [beyond(*edge, table, toward) for edge in self.edges.get(index, ())]
                here = found[0] if len(found) == 1 else NOWHERE.union(*found)
                table[index] = here | {LOSS} if index in last else here
            self._ends[key] = table
        used = (edge for name in names for edge in self.uses.get(name, ()))
        return NOWHERE.union(*(beyond(*edge, self._ends[key], toward) for edge in used))

    def _cut(self, operand: Operand, operation: Operation, table: Mapping[int, Ends], toward: Collection[int]) -> Ends:
        """Where ways over this edge end: at losses, or where they leave the graph."""
        if operation.index not in toward:
            return NOWHERE
        if self.passes(operand, operation):
            return table[operation.index]
        if operand.has_graph:
            return frozenset({(operation.index, False)})
        maker = self._maker(operand)
        return NOWHERE if maker is None else frozenset({(maker.index, len(maker.shapes) > 1 or not maker.shapes)})

    def _flat(self, operand: Operand, operation: Operation, table: Mapping[int, Ends], toward: Collection[int]) -> Ends:
        """Where ways over this edge along the graph end: at losses, or at operations with a derivative of zero."""
        if operation.index not in toward or not self.passes(operand, operation):
            return NOWHERE
        ends = table[operation.index]
        return frozenset({(operation.index, False)}) if ends and operation.name in FLAT else ends

    def _outermost(self, names: Collection[str], losses: Sequence[Operation]) -> Ends:
        """One that leads back into the graph is a factor of what is cut later, and left out."""
        inside = self.connected(names)
        outside = self.upstream(losses, around=inside)
        used = [edge for name in names for edge in self.uses.get(name, ())]
        left = chain(used, *(self.edges.get(index, ()) for index in inside))
        return NOWHERE.union(*(self._cut(*edge, {}, outside) for edge in left if edge[1].index not in inside))

    def _rejoins(self, operation: Operation) -> bool:
        return operation.is_loss or any(operand.has_graph for operand, _ in self.edges.get(operation.index, ()))


def read(operation: Operation) -> tuple[Operand, ...]:
    """The operands whose values an operation uses."""
    return operation.operands[1:] if operation.name.startswith("new_") else operation.operands


def expression(operation: Operation) -> str:
    """What the user wrote for it: the expression, or the whole line where only that is known; "" if neither is."""
    place = operation.location
    return "" if place is None else place.source[place.column : place.end or None]


def strangers(operation: Operation) -> frozenset[Stranger]:
    """The tensors it used that nothing in the trace has made, each with its shape; single numbers are left out."""
    unknown = (each for each in operation.operands if each.operation is None and not each.parameter)
    return frozenset((each.shape, each.stranger) for each in unknown if each.shape)


def flow_of(operations: Sequence[Operation]) -> Flow:
    """The flow of a trace. The last one is kept, because a trace is judged many times."""
    global _last  # noqa: PLW0603  one trace is judged many times
    if _last.operations is not operations:
        _last = Flow(operations)
    return _last


_last = Flow(())


def _in_checkpoint(operation: Operation) -> bool:
    return operation.function == CHECKPOINT
