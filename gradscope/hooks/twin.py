"""A copy of a module in another precision, to be called again and again; the module itself notices nothing."""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradscope.errors import GradscopeError
from gradscope.hooks.applied import Applied, function_of
from gradscope.hooks.frames import location, user_frame
from gradscope.hooks.functions import FunctionCalls
from gradscope.hooks.outputs import tensors
from gradscope.probes import undisturbed
from gradscope.traces import Verification

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Twin:
    """A copy of a module with copies of its inputs, called always with the same buffers."""

    def __init__(
        self, module: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any], precision: torch.dtype
    ) -> None:
        self.name = type(module).__name__
        self._precision = precision
        self._module = _copy(module, precision)
        self._buffers = [
            (part, key, buffer.clone())
            for part in self._module.modules()
            for key, buffer in part._buffers.items()
            if buffer is not None
        ]
        parameters = {name: each for name, each in self._module.named_parameters() if _trains(each)}
        self._inputs: dict[str, Tensor] = {}
        self._arguments = self._taken(_named(module, inputs, named), set(parameters))
        self._count = len(inputs)
        self.leaves = self._inputs | parameters
        if not self.leaves:
            raise GradscopeError(
                f"{self.name} has no trainable parameter and was given no floating-point tensor: there is nothing to "
                "differentiate; pass the inputs of its forward"
            )
        self.applies: set[type] = set()

    def run(self) -> list[Tensor]:
        """Call the copy; its floating outputs."""
        for part, key, buffer in self._buffers:
            part._buffers[key] = buffer.clone()
        values = [self._given(each) for each in self._arguments.values()]
        named = dict(zip(list(self._arguments)[self._count :], values[self._count :], strict=True))
        with _default(self._precision):
            output = self._module(*values[: self._count], **named)
        floating = [each for _, each in tensors(output) if each.is_floating_point() or each.is_complex()]
        if not floating:
            raise GradscopeError(
                f"{self.name} returned no floating-point tensor but {type(output).__name__}: there is nothing to "
                "differentiate; verify the module that computes the result"
            )
        return floating

    def functions(self) -> tuple[list[Verification], list[str]]:
        """The autograd Functions that it applies, each verified by itself, and which could not be."""
        calls = FunctionCalls(seconds=float("inf"), advice="")
        paths = {id(part): path for path, part in self._module.named_modules()}
        devices = {leaf.device for leaf in self.leaves.values()}
        with undisturbed(devices), Observer(calls, paths) as observer:
            self.run()
        self.applies = observer.applied
        with _default(self._precision):
            return calls.verify()

    def _taken(self, arguments: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
        """The arguments, with a leaf for each floating tensor, under a name of its own."""
        names = {name: f"argument {name}" if name in taken else name for name in arguments}
        return {name: self._leaved(value, names[name]) for name, value in arguments.items()}

    def _leaved(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            if not value.is_floating_point() or value.layout is not torch.strided:
                return value.detach().clone()
            self._inputs[name] = value.detach().to(self._precision, copy=True).requires_grad_()
            return self._inputs[name]
        return _mapped(value, lambda item, key: self._leaved(item, f"{name}.{key}"))

    def _given(self, value: Any) -> Any:
        """An argument as it is passed on: the module may modify it."""
        return value.clone() if isinstance(value, Tensor) else _mapped(value, lambda item, _: self._given(item))


class Observer(TorchFunctionMode):
    """Tells `calls` which autograd Functions are applied, and what runs inside of them."""

    def __init__(self, calls: FunctionCalls, paths: Mapping[int, str]) -> None:
        super().__init__()
        self._calls, self._paths = calls, paths
        self.applied: set[type] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            function = function_of(frame.f_code)
            if function is not None:
                self._saw(Applied(frame, function), str(getattr(func, "__name__", "")))
            frame = frame.f_back
        return func(*args, **(kwargs or {}))

    def _saw(self, applied: Applied, name: str) -> None:
        frame = applied.frame.f_back
        self.applied.add(applied.function)
        self._calls.seen(applied.function, applied.args, self._path(frame), location(user_frame(frame)), 0)
        self._calls.inner(applied.function, name)

    def _path(self, frame: FrameType | None) -> str:
        while frame is not None:
            path = self._paths.get(id(frame.f_locals.get("self"))) if frame.f_code.co_name == "forward" else None
            if path is not None:
                return path
            frame = frame.f_back
        return ""


def _copy(module: nn.Module, precision: torch.dtype) -> nn.Module:
    """A deep copy in another precision, with torch's own hooks only."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for table in (vars(part)[name] for name in HOOKS if name in vars(part)):
            memo[id(table)] = type(table)((key, hook) for key, hook in table.items() if _is_torchs(hook))
        results = (value for value in vars(part).values() if isinstance(value, Tensor) and not value.is_leaf)
        memo.update((id(value), value.detach().clone()) for value in results)
    try:
        copy = deepcopy(module, memo).to(precision)
    except Exception as error:
        raise GradscopeError(
            f"{type(module).__name__} cannot be copied: {type(error).__name__}: {error}. verify() works on a copy; "
            "pass a part of the module that copy.deepcopy can copy"
        ) from error
    for part in copy.modules():
        _prepare(part, precision)
    return copy


def _prepare(part: nn.Module, precision: torch.dtype) -> None:
    """Tensors that are no buffers follow; what leaves gradients out, or approximates them, on purpose does not."""
    for name, value in vars(part).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            vars(part)[name] = value.detach().to(precision)
    if isinstance(part, nn.Embedding):
        part.padding_idx = None
    if isinstance(part, nn.Embedding | nn.EmbeddingBag):
        part.scale_grad_by_freq = False
    hooks = (type(hook).__name__ for hook in part._forward_pre_hooks.values())  # old spectral norm
    if type(part).__name__ == "_SpectralNorm" or "SpectralNorm" in hooks:
        part.training = False  # in training it iterates, and takes the result for a constant


def _is_torchs(hook: Any) -> bool:
    owner = hook if inspect.isroutine(hook) else type(hook)
    return str(getattr(owner, "__module__", "")).partition(".")[0] == "torch"


def _named(module: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments, under the names that the forward gives them."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
        names = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        names = []
    names += [f"input {i}" for i in range(len(names), len(inputs))]
    return dict(zip(names, inputs, strict=False)) | dict(named)


def _mapped(value: Any, change: Any) -> Any:
    """A structure with its items changed; other objects as a copy."""
    if isinstance(value, dict):
        return {key: change(item, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [change(item, i) for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _trains(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.is_floating_point() and parameter.layout is torch.strided


@contextmanager
def _default(precision: torch.dtype) -> Iterator[None]:
    """New tensors in this precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(precision)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
