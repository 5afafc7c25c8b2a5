"""One call of an autograd Function, made again with copies of its arguments."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

from gradscope.derivatives import Outcome
from gradscope.hooks.outputs import tensors
from gradscope.probes import undisturbed
from gradscope.traces import Derivative, Location

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a Function: copies of its arguments, and why it cannot be repeated, if so."""

    function: type[Function]
    arguments: tuple[Any, ...] = ()
    module: str = ""
    location: Location | None = None
    step: int = 0
    obstacle: str = ""


class Replay:
    """A call made again in a given precision: floating arguments that required grad are the leaves."""

    def __init__(self, call: Call, precision: torch.dtype) -> None:
        self._function = call.function
        self._arguments = [_converted(each, precision) for each in call.arguments]
        names = _names(call.function, len(call.arguments))
        self._positions = {name: i for i, name in enumerate(names) if _is_leaf(call.arguments[i])}
        self.leaves = {name: self._arguments[i].requires_grad_() for name, i in self._positions.items()}

    def run(self) -> list[Tensor]:
        """Apply the Function; its floating results."""
        return [each for _, each in tensors(self._applied()) if each.is_floating_point() or each.is_complex()]

    def returned(self) -> dict[str, Shape]:
        """The shapes of what the backward itself returns, where it returns something."""
        with undisturbed({leaf.device for leaf in self.leaves.values()}):
            result = self._applied()
            results = result if isinstance(result, tuple) else (result,)
            node = _node(self._function, results)
            if node is None:
                return {}
            with torch.no_grad():
                given = node.apply(*(torch.ones_like(each) if isinstance(each, Tensor) else None for each in results))
        gradients = given if isinstance(given, tuple) else (given,)
        found = {name: gradients[i] for name, i in self._positions.items() if i < len(gradients)}
        return {name: tuple(each.shape) for name, each in found.items() if isinstance(each, Tensor)}

    def misfit(self, returned: dict[str, Shape]) -> Outcome | None:
        """The inputs whose gradient autograd will refuse for its shape; None when it refuses none."""
        shapes = {name: tuple(self.leaves[name].shape) for name in returned}
        found = tuple(
            Derivative(name, 1.0, 0, transposed=got == _swapped(shapes[name]), expected=shapes[name], returned=got)
            for name, got in returned.items()
            if not fits(got, shapes[name])
        )
        return Outcome(found) if found else None

    def _applied(self) -> Any:
        """The result; a leaf goes in as a copy within the graph, because it may be modified in place."""
        leaves = self._positions.values()
        given = (each.clone() if i in leaves else copied(each) for i, each in enumerate(self._arguments))
        return self._function.apply(*given)


def fits(returned: Shape, expected: Shape) -> bool:
    """Whether autograd can sum a gradient to the shape of its input."""
    pairs = zip(returned[::-1], expected[::-1], strict=False)
    return len(returned) >= len(expected) and all(wanted in (1, got) for got, wanted in pairs)


def _swapped(shape: Shape) -> Shape:
    return (*shape[:-2], *shape[:-3:-1])


def _node(function: type[Function], results: Sequence[Any]) -> Any:
    """The Function's own node in the graph of its results."""
    stack = [each.grad_fn for each in results if isinstance(each, Tensor) and each.grad_fn is not None]
    for _ in range(len(stack) + 8):
        if not stack:
            break
        node = stack.pop(0)
        if getattr(node, "_forward_cls", None) is function:
            return node
        stack.extend(following for following, _ in node.next_functions if following is not None)
    return None


def _names(function: type[Function], number: int) -> list[str]:
    """The names of a Function's arguments, without its ctx."""
    try:
        parameters = list(inspect.signature(inspect.unwrap(function.forward)).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    if function.setup_context is Function.setup_context:
        parameters = parameters[1:]
    names = [each.name for each in parameters if each.kind is not each.VAR_POSITIONAL]
    rest = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "argument ")
    return [names[i] if i < len(names) else f"{rest}[{i - len(names)}]" for i in range(number)]


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and value.is_floating_point()


def copied(value: Any) -> Any:
    """A value that shares no memory with this one; it requires grad if this one does."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return tuple(map(copied, value)) if type(value) is tuple else value


def _converted(value: Any, precision: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        wide = value.is_floating_point()
        return value.detach().to(precision if wide else value.dtype, copy=True)
    return tuple(_converted(each, precision) for each in value) if type(value) is tuple else value
