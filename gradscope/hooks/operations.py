"""One traced step: every torch function that runs, with its module, the user's line and where its inputs came from.

The trace is a torch function mode at the bottom of the mode stack, so that the user's own modes still leave
in the order they entered. It holds tensors weakly. It is used on request only, and never with compiled code.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

from gradscope.hooks.frames import location, user_frame
from gradscope.hooks.outputs import tensors
from gradscope.hooks.registry import Registry
from gradscope.traces import Operation

EXITS = frozenset({"item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__array__"})
MOST_OPERATIONS = 100_000
PATIENCE = 4

# The arithmetic of optimizers and our own is no part of the way to the loss.
_UNSEEN = (str(Path(torch.optim.__file__).parent), str(Path(__file__).parent))


class Trace(TorchFunctionMode):
    """Records operations between `start` and `stop`."""

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self._made: dict[int, tuple[ReferenceType[Tensor], int]] = {}
        self._exported: dict[int, int] = {}
        self._operations: list[Operation] = []
        self._boundaries = 0
        self._thread = 0
        self.saw_loss = False
        self.lost = ""

    def start(self) -> None:
        """Put the trace at the bottom of the mode stack, above a default device, which insists on that place.

        Not from within a backward: autograd would take it off again.
        """
        self._thread = get_ident()
        above = _popped(lambda mode: isinstance(mode, DeviceContext))
        _push_mode(self)
        _pushed(above)

    def stop(self) -> tuple[Operation, ...]:
        """Take the trace off the stack; what was recorded, or nothing if no `backward()` was among it."""
        above = _popped(lambda mode: mode is self)
        if torch._C._len_torch_function_stack():
            _pop_mode()
        _pushed(above)
        self._made.clear()
        return tuple(self._operations) if self.saw_loss and not self.lost else ()

    def can_stop(self) -> bool:
        """Whether this is the thread it was started in: every thread has a mode stack of its own."""
        return get_ident() == self._thread

    def finished(self) -> bool:
        """Asked where a step may have ended: whether a whole one was seen, or none is to be expected."""
        self._boundaries += 1
        return self.saw_loss or bool(self.lost) or self._boundaries >= PATIENCE

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.lost or sys._getframe(1).f_code.co_filename.startswith(_UNSEEN):
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            before = self._before(func, args, kwargs)
        result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._after(func, args, before, result)
        return result

    def _before(self, func: Any, args: Any, kwargs: Any) -> list[tuple[Tensor, bool]]:
        try:
            if func is Tensor.backward:
                self._mark_loss(args[0])
            return [(tensor, tensor.requires_grad) for _, tensor in tensors((args, kwargs))]
        except Exception as error:  # noqa: BLE001  the user's operation must run, whatever befalls the trace
            self.lost = f"the trace failed: {error!r}"
            return []

    def _after(self, func: Any, args: Any, inputs: list[tuple[Tensor, bool]], result: Any) -> None:
        try:
            self._note(_name(func), args, inputs, result)
        except Exception as error:  # noqa: BLE001  as above
            self.lost = f"the trace failed: {error!r}"

    def _note(self, name: str, args: Any, inputs: list[tuple[Tensor, bool]], result: Any) -> None:
        made = [tensor for _, tensor in tensors(result)]
        if _in_place(name) and args and isinstance(args[0], Tensor):
            made.append(args[0])
        if (not made and name not in EXITS) or len(self._operations) >= MOST_OPERATIONS:
            return
        index = len(self._operations)
        module, frame = self._place()
        self._operations.append(
            Operation(
                index,
                name,
                module,
                location(frame),
                inputs=tuple(dict.fromkeys(i for tensor, _ in inputs if (i := self._maker(tensor)) is not None)),
                parameters=self._parameters(tensor for tensor, _ in inputs),
                had_graph=any(had for _, had in inputs),
                has_graph=any(tensor.requires_grad for tensor in made),
                grad_enabled=torch.is_grad_enabled(),
            )
        )
        for tensor in made:
            self._made[id(tensor)] = (ref(tensor), index)
        if name in EXITS:
            self._exported.update((_memory(tensor), index) for tensor, _ in inputs)

    def _maker(self, tensor: Tensor) -> int | None:
        """The operation that made a tensor, also when it went through NumPy and came back in the same memory."""
        reference, index = self._made.get(id(tensor), (None, None))
        if reference is not None and reference() is tensor:
            return index
        return self._exported.get(_memory(tensor)) if self._exported else None

    def _parameters(self, inputs: Iterable[Tensor]) -> tuple[str, ...]:
        found = (self._registry.index.get(id(tensor)) for tensor in inputs)
        return tuple(self._registry.parameters[i].path for i in found if i is not None)

    def _mark_loss(self, loss: Tensor) -> None:
        index = self._maker(loss)
        if index is not None:
            self._operations[index] = replace(self._operations[index], is_loss=True)
            self.saw_loss = True

    def _place(self) -> tuple[str, FrameType | None]:
        frame = sys._getframe(2)
        return self._module(frame), user_frame(frame)

    def _module(self, frame: FrameType | None) -> str:
        while frame is not None:
            if frame.f_code.co_name == "forward":
                path = self._registry.module_path(frame.f_locals.get("self"))
                if path is not None:
                    return path
            frame = frame.f_back
        return ""


def _name(func: Any) -> str:
    name = str(getattr(func, "__name__", func))
    return str(getattr(getattr(func, "__self__", None), "__name__", name)) if name == "__get__" else name


def _in_place(name: str) -> bool:
    return name == "__setitem__" or name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _popped(until: Callable[[Any], bool]) -> list[Any]:
    modes: list[Any] = []
    while torch._C._len_torch_function_stack():
        mode = _pop_mode()
        if until(mode):
            _push_mode(mode)
            break
        modes.append(mode)
    return modes


def _pushed(modes: list[Any]) -> None:
    for mode in reversed(modes):
        _push_mode(mode)
