"""Which autograd Function is at work, told by the stack: the frame of its forward, whatever name it was called by."""

import inspect
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from torch.autograd import Function

# By the code's id, which is cheaper to hash; the code itself is kept, so that its id stays its own.
_seen: dict[int, tuple[CodeType, type[Function] | None]] = {}


class Applied:
    """One call of an autograd Function that is running, by the frame of its forward."""

    def __init__(self, frame: FrameType, function: type[Function]) -> None:
        code, values = frame.f_code, frame.f_locals
        names = code.co_varnames[: code.co_argcount]
        rest = values.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ()) if _takes_more(code) else ()
        alone = function.setup_context is Function.setup_context
        self.frame = frame
        self.function = getattr(type(values.get(names[0])), "_forward_cls", function) if alone and names else function
        self.names = names[1:] if alone else names
        self.args: tuple[Any, ...] = (*(values.get(name) for name in self.names), *rest)

    @property
    def name(self) -> str:
        """The Function's name."""
        return self.function.__name__

    @property
    def is_torchs(self) -> bool:
        """Whether it is one of torch's own, such as a checkpoint."""
        return is_torchs(self.function)


def applied(frame: FrameType | None) -> Applied | None:
    """The outermost Function of the user's on the stack, else the innermost one of torch's."""
    users: tuple[FrameType, type[Function]] | None = None
    torchs = None
    while frame is not None:
        function = function_of(frame.f_code)
        if function is not None and is_torchs(function):
            torchs = torchs or (frame, function)
        elif function is not None:
            users = frame, function
        frame = frame.f_back
    found = users or torchs
    return None if found is None else Applied(*found)


def function_of(code: CodeType) -> type[Function] | None:
    """The Function whose forward this is."""
    if id(code) not in _seen:
        forwards = ((forward, function) for function in _known(Function) for forward in _forward(function))
        _seen.update((id(forward), (forward, function)) for forward, function in forwards)
        _seen.setdefault(id(code), (code, None))
    return _seen[id(code)][1]


def _known(function: type[Function]) -> Iterator[type[Function]]:
    for each in function.__subclasses__():
        yield each
        yield from _known(each)


def _forward(function: type[Function]) -> Iterator[CodeType]:
    """The code of its own forward, without what is wrapped around it (custom_fwd)."""
    if "forward" in vars(function):
        code = getattr(inspect.unwrap(function.forward), "__code__", None)
        if code is not None:
            yield code


def is_torchs(function: type[Function]) -> bool:
    """Whether a Function is one of torch's own, such as a checkpoint."""
    return function.__module__.partition(".")[0] == "torch"


def _takes_more(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_VARARGS)
