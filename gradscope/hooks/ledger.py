"""What a trace notes of each operation: its place, its operands, its values, and later its gradient."""

from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gradscope.hooks import statistics
from gradscope.hooks.applied import Applied, applied, is_torchs
from gradscope.hooks.frames import in_optimizer, mention, resolve, spot, user_frame
from gradscope.hooks.outputs import shape, tensors
from gradscope.hooks.provenance import Provenance
from gradscope.hooks.spelling import EXITS, SHAPED, in_place, writes
from gradscope.hooks.traced import Call, Traced
from gradscope.hooks.transfer import Readback
from gradscope.traces import Location, Operand

MOST_OPERATIONS = 50_000

Gradients = tuple[Tensor | None, ...]


class FunctionListener(Protocol):
    """Who wants to hear of the user's autograd Functions."""

    def seen(self, function: Any, args: tuple[Any, ...], module: str, location: Location | None, step: int) -> None:
        """A Function was called."""

    def inner(self, function: Any, name: str) -> None:
        """A torch function ran inside its forward."""


class Ledger:
    """The calls of a trace, in order. `module` tells which module runs, `step` which step it is."""

    def __init__(
        self, provenance: Provenance, module: Callable[[], str], step: Callable[[], int], functions: FunctionListener
    ) -> None:
        self._provenance = provenance
        self._module = module
        self._step = step
        self._functions = functions
        self._calls: list[Call] = []
        self._readback = Readback()
        self._inside: tuple[FrameType, int] | None = None
        self._closed = False
        self.saw_loss = False
        self.lost = ""
        self.failed: Call | None = None

    def lose(self, error: Exception) -> None:
        """An exception of ours: the trace is worth nothing any more."""
        self.lost = f"the trace failed: {error!r}"

    @property
    def full(self) -> bool:
        """Whether no more operations are noted."""
        return len(self._calls) >= MOST_OPERATIONS

    def open(self, name: str, caller: FrameType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """An operation is about to run, whose operands it may change; None if it is not to be noted."""
        self.failed = None
        if name == "backward" or (name == "grad" and not kwargs.get("create_graph")):
            self._mark_losses(args[:1])
        if name == "backward" or self.full:
            return None
        grad = torch.is_grad_enabled()
        within = None if grad else applied(caller)  # the forward of a Function runs without grad mode
        frame = user_frame(caller if within is None else within.frame.f_back)
        operands = self._operands(_sources(name, args, kwargs))
        call = Call(_precisely(name, kwargs), self._module(), None, self._step(), list(operands), grad)
        call.place = None if frame is None else spot(frame)
        call.function = within.name if within is not None else ""
        call.reduction = str(kwargs.get("reduction", ""))
        if within is None or within.is_torchs:
            self._inside = None
        else:
            self._enter(within, call)
        return call

    def note(self, call: Call, args: tuple[Any, ...], result: Any) -> None:
        """An operation has run."""
        made = [tensor for _, tensor in tensors(result)]
        if in_place(call.name) and args and isinstance(args[0], Tensor) and all(t is not args[0] for t in made):
            made.append(args[0])
        if not made and call.name not in EXITS:
            return
        index = self._add(call) if self._inside is None else self._inside[1]
        for tensor in made:
            self._provenance.made(tensor, index)
        if writes(call.name) and args and isinstance(args[0], Tensor):
            written = self._provenance.wrote(args[0], index)
            call.written = "" if written and in_optimizer() else written
        if call.name in EXITS and args and isinstance(args[0], Tensor):
            self._provenance.exported(args[0], result, index)
        if self._inside is None:
            self._describe(index, made)

    def backward_begins(self) -> None:
        """A backward runs. Where nobody saw it being called, the last scalar with a graph is its loss."""
        step = self._step()
        calls = [call for call in self._calls if call.step == step]
        if not any(call.is_loss for call in calls):
            last = next((call for call in reversed(calls) if call.has_graph and () in call.shapes), None)
            if last is not None:
                self._mark_loss(last)

    def close(self) -> Traced:
        """Let go of all tensors and start reading what was measured."""
        self._closed = True
        self._inside = None
        self._provenance.forget()
        return Traced(self._calls, self._readback.send(), self.failed)

    def _add(self, call: Call) -> int:
        self._calls.append(call)
        return len(self._calls) - 1

    def _enter(self, within: Applied, inner: Call) -> None:
        """An operation runs inside of an autograd Function, which is one operation as a whole."""
        if self._inside is None or self._inside[0] is not within.frame:
            self._inside = within.frame, self._begin(within, inner)
        self._functions.inner(within.function, inner.name)
        index = self._inside[1]
        known = self._calls[index].operands
        for operand in inner.operands:
            captured = operand.operation not in (None, index) or operand.parameter
            if captured and all(operand[:3] != other[:3] for other in known):
                known.append(operand)

    def _begin(self, within: Applied, inner: Call) -> int:
        named = zip(within.names, within.args, strict=False)
        operands = [operand._replace(name=name) for name, arg in named for operand in self._operands([arg])]
        call = Call(within.name, inner.module, inner.place, inner.step, operands, True, within.name)
        where = None if inner.place is None else resolve(inner.place)
        self._functions.seen(within.function, within.args, call.module, where, call.step)
        return self._add(call)

    def _describe(self, index: int, made: list[Tensor]) -> None:
        call = self._calls[index]
        call.shapes = tuple(shape(tensor) for tensor in made)
        call.has_graph = any(tensor.requires_grad for tensor in made)
        call.differentiable = not made or any(tensor.is_floating_point() or tensor.is_complex() for tensor in made)
        for tensor in made:
            if tensor._is_view() and not in_place(call.name):
                call.viewed = next((o.operation for o in call.operands if o.operation is not None), None)
            elif statistics.obstacle(tensor) is None:
                call.values.append(self._readback.measure(tensor))
            if tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(partial(self._gradient, index, tensor.output_nr))

    def _gradient(self, index: int, output: int, gradients: Gradients) -> None:
        if self._closed or self.lost:
            return
        try:
            gradient = gradients[output]
            if gradient is not None and statistics.obstacle(gradient) is None:
                with statistics.out_of_sight():
                    self._calls[index].gradients.append(self._readback.measure(gradient))
        except Exception as error:  # noqa: BLE001  the user's backward must run, whatever befalls the trace
            self.lose(error)

    def _operands(self, values: Any) -> Iterator[Operand]:
        for value in values:
            held = [value] if isinstance(value, Tensor) else [tensor for _, tensor in tensors(value)]
            for tensor in held:
                yield self._operand(tensor)
            if not held and (isinstance(value, float | list | tuple) or hasattr(value, "__array_interface__")):
                index = self._provenance.of_value(value)
                if index is not None:
                    yield Operand(tuple(getattr(value, "shape", ())), index)

    def _operand(self, tensor: Tensor) -> Operand:
        parameter = self._provenance.parameter(tensor)
        source = None if parameter else self._provenance.rewrapped(tensor)
        if source is not None:
            return Operand(shape(tensor), self._rewrapped(tensor, source), "", tensor.requires_grad)
        index = None if parameter else self._provenance.maker(tensor)
        if index is None and not parameter and tensor.grad_fn is not None:
            index = self._unseen(tensor)
        elif index is not None and tensor.requires_grad:
            self._complete(index, tensor)
        stranger = 0 if parameter or index is not None else self._provenance.stranger(tensor)
        return Operand(shape(tensor), index, parameter, tensor.requires_grad, stranger=stranger)

    def _complete(self, index: int, tensor: Tensor) -> None:
        """A result of an autograd Function becomes known only when it is used."""
        call, function = self._calls[index], getattr(tensor.grad_fn, "_forward_cls", None)
        if function is None or is_torchs(function):
            return
        call.name = call.function = function.__name__  # else what torch does to an input that is returned as it is
        if not call.has_graph:
            self._describe(index, [tensor])

    def _rewrapped(self, tensor: Tensor, source: int) -> int:
        """A tensor was made a leaf of its own by nn.Parameter, which nobody saw."""
        operand = Operand(shape(tensor), source, "", self._calls[source].has_graph)
        frame = user_frame()
        index = self._add(Call("Parameter", self._module(), None, self._step(), [operand], True))
        self._calls[index].shapes = (shape(tensor),)
        self._calls[index].place = None if frame is None else mention(frame, "Parameter(")
        self._provenance.made(tensor, index)
        return index

    def _unseen(self, tensor: Tensor) -> int:
        """Code out of sight has made this tensor: its graph tells from what."""
        node: Any = tensor.grad_fn
        operands = [Operand((), index, name, True) for index, name in self._provenance.beneath(tensor)]
        call = Call(node.name().removesuffix("Backward"), self._module(), None, self._step(), operands, True)
        call.function = call.name if isinstance(node, BackwardCFunction) else ""
        index = self._add(call)
        self._provenance.made(tensor, index)
        self._describe(index, [tensor])
        return index

    def _mark_losses(self, losses: Any) -> None:
        for operand in self._operands(losses):
            if operand.operation is not None:
                self._mark_loss(self._calls[operand.operation])

    def _mark_loss(self, call: Call) -> None:
        call.is_loss = self.saw_loss = True
        call.backward = len(self._calls)


def _sources(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments whose values matter for the result."""
    if name in SHAPED:
        return ()
    return args[:1] if name.endswith("_as") else (*args, *kwargs.values())


def _precisely(name: str, kwargs: dict[str, Any]) -> str:
    return f"{name.strip('_')}(rounding_mode)" if kwargs.get("rounding_mode") else name
