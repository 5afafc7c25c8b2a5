"""Which traced operation made a tensor: by the object, by the memory it shares, by the number it became.

Tensors are held weakly. Nodes of the graph are held until the trace stops, so that what C++ code computed out of
sight can be followed through the graph.
"""

from collections.abc import Iterator
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from gradscope.hooks.registry import Registry

MOST_NUMBERS = 256
MOST_NODES = 2_000


class Provenance:
    """Remembers the makers of tensors, as indices of operations."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[int, tuple[ReferenceType[Tensor], int]] = {}
        self._nodes: dict[Any, int] = {}
        self._written: dict[int, int] = {}
        self._exported: dict[int, int] = {}
        self._strangers: dict[int, tuple[ReferenceType[Tensor], int]] = {}
        self._met = 0
        self._numbers: dict[float, int] = {}
        self._memories: dict[int, int] = {}
        self._parameters = {memory(item.parameter): item.path for item in registry.parameters}
        self._parameters.pop(0, None)

    def made(self, tensor: Tensor, index: int) -> None:
        """An operation has made this tensor, or modified it in place."""
        self._made[id(tensor)] = (ref(tensor), index)
        self._memories[memory(tensor)] = index
        node = tensor.grad_fn
        if node is not None:
            self._nodes[node] = index

    def wrote(self, tensor: Tensor, index: int) -> str:
        """An operation has written into this tensor's memory. Returns the parameter that lives there, if one does."""
        base = tensor._base if tensor._is_view() else None
        if base is not None:
            self._made[id(base)] = (ref(base), index)
        if memory(tensor):
            self._written[memory(tensor)] = index
        path = self.parameter(tensor)  # else a parameter was given other memory, which nothing tells afterwards
        if path and memory(tensor):
            self._parameters[memory(tensor)] = path
        return path or self._parameters.get(memory(tensor), "")

    def exported(self, tensor: Tensor, values: Any, index: int) -> None:
        """A tensor's values have left torch: into an array that shares its memory, or as numbers."""
        if memory(tensor):
            self._exported[memory(tensor)] = index
        for number in _numbers(values):
            self._numbers[number] = index

    def maker(self, tensor: Tensor) -> int | None:
        """The operation that made a tensor, or the last one that has written into it since."""
        reference, index = self._made.get(id(tensor), (None, None))
        if reference is None or reference() is not tensor:
            index = self._unknown(tensor)
        if not self._written:
            return index
        written = self._written.get(memory(tensor))
        return written if written is not None and (index is None or written > index) else index

    def of_value(self, value: Any) -> int | None:
        """The operation that made a number, or the numbers in a list or an array."""
        interface = getattr(value, "__array_interface__", None)
        known = None if interface is None else self._exported.get(interface["data"][0])
        return self._of_numbers(value) if known is None else known

    def beneath(self, tensor: Tensor) -> Iterator[tuple[int | None, str]]:
        """What a tensor that nobody saw being made was computed from: operations and parameters, told by its graph."""
        stack, seen = [tensor.grad_fn], set[Any]()
        while stack and len(seen) < MOST_NODES:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, "variable", None)
            if node in self._nodes:
                yield self._nodes[node], ""
            elif leaf is not None:
                yield None, self.parameter(leaf)
            else:
                stack.extend(following for following, _ in node.next_functions)

    def parameter(self, tensor: Tensor) -> str:
        """The full name of a parameter; "" for any other tensor."""
        index = self._registry.index.get(id(tensor))
        return "" if index is None else self._registry.parameters[index].path

    def stranger(self, tensor: Tensor) -> int:
        """The number of a tensor that nothing in the trace has made, from 1 on."""
        reference, number = self._strangers.get(id(tensor), (None, 0))
        if reference is None or reference() is not tensor:
            self._met += 1
            number = self._met
            self._strangers[id(tensor)] = ref(tensor), number
        return number

    def forget(self) -> None:
        """Let go of everything."""
        self._strangers.clear()
        self._made.clear()
        self._nodes.clear()

    def rewrapped(self, tensor: Tensor) -> int | None:
        """The operation that made the memory of a new leaf: nn.Parameter(t) is made out of sight, in t's memory."""
        known = id(tensor) in self._made and self._made[id(tensor)][0]() is tensor
        return None if known or not (tensor.is_leaf and tensor.requires_grad) else self._memories.get(memory(tensor))

    def _unknown(self, tensor: Tensor) -> int | None:
        if not self._exported or tensor.requires_grad:
            return None
        known = self._exported.get(memory(tensor))
        return self._of_numbers(tensor) if known is None and tensor.device.type == "cpu" else known

    def _of_numbers(self, value: Any) -> int | None:
        if not self._numbers:
            return None
        return next((self._numbers[number] for number in _numbers(value) if number in self._numbers), None)


def memory(tensor: Tensor) -> int:
    """The address of a tensor's storage; 0 when it has none to speak of."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided:
        return 0
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return 0
    return tensor.untyped_storage().data_ptr()


def _numbers(values: Any) -> Iterator[float]:
    """The first numbers in a structure that are unlikely to be there by chance."""
    stack, left = [values], MOST_NUMBERS
    while stack and left:
        left -= 1
        value = stack.pop()
        if isinstance(value, float) and round(value, 4) != value:
            yield float(value)
        elif isinstance(value, list | tuple):
            stack.extend(reversed(value[:MOST_NUMBERS]))
        elif hasattr(value, "__array_interface__") or (isinstance(value, Tensor) and memory(value)):
            stack.append(value.reshape(-1)[:MOST_NUMBERS].tolist())
