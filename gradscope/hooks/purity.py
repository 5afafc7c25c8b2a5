"""Whether an autograd Function can be called once more without anybody noticing, told from its code.

It must keep nothing but what it puts on its `ctx`, print nothing, and read no object that remembers.
"""

import builtins
import dis
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodDescriptorType, ModuleType
from typing import Any

import torch
from torch import Tensor

# Random numbers are rewound after a check, so that drawing some is no trace.
LIBRARIES = frozenset({"abc", "builtins", "cmath", "collections", "einops", "functools", "itertools", "math"})
LIBRARIES |= frozenset({"numpy", "operator", "random", "scipy", "torch", "typing"})
FORBIDDEN = frozenset({"__import__", "breakpoint", "delattr", "eval", "exec", "exit", "globals", "input", "locals"})
FORBIDDEN |= frozenset({"open", "print", "quit", "setattr", "vars"})
WRITING = frozenset({"dump", "load", "save", "savez", "savez_compressed", "set_default_dtype", "tofile"})
PLAIN = (int, float, complex, str, bytes, bool, type(None), EllipsisType, slice, range, Enum)
PLAIN_OF_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.finfo, torch.iinfo)
DEEPEST = 5


def is_plain(value: Any) -> bool:
    """Whether a value cannot change: numbers, strings, what names a dtype or a device, and tuples of these."""
    if isinstance(value, tuple | frozenset):
        return all(is_plain(item) for item in value)
    return isinstance(value, (*PLAIN, *PLAIN_OF_TORCH))


def impurity(function: type) -> str:
    """Why a Function must not be called once more; "" if nothing speaks against it."""
    known = set[int]()
    for name in ("forward", "setup_context", "backward", "vjp"):
        for part in _unwrapped(getattr(function, name, None)):
            reason = _reason(part, known, DEEPEST)
            if reason:
                return f"its {name} {reason}"
    return _state(function, known)


def _unwrapped(function: Any) -> Iterator[Any]:
    """A function and those that decorators have wrapped."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def _state(cls: type, known: set[int]) -> str:
    """What in the class itself can change."""
    for base in cls.__mro__:
        if _is_of_library(base.__module__):
            continue
        for name, value in vars(base).items():
            if (
                name.startswith("__")
                or name == "_backward_cls"
                or isinstance(value, staticmethod | classmethod | property | FunctionType)
            ):
                continue
            reason = _about(value, known, 0)
            if reason:
                return f"its {name} {reason}"
    return ""


def _reason(function: Any, known: set[int], depth: int) -> str:
    """What a function does that must not be done twice."""
    if not isinstance(function, FunctionType):
        return "is not written in Python"
    if id(function) in known or _is_of_library(_home(function)):
        return ""
    known.add(id(function))
    if not depth:
        return "calls too deep to follow"
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    reasons = (_about(value, known, depth - 1) for value in defaults)
    return next(filter(None, reasons), "") or _in_code(function.__code__, function, known, depth)


def _in_code(code: CodeType, function: FunctionType, known: set[int], depth: int) -> str:
    own = code.co_varnames[0] if code.co_argcount else ""
    before: dis.Instruction | None = None
    writes = _writes_in_place(code)
    for instruction in dis.get_instructions(code):
        reason = _stores(instruction, before, own, function) or _reads(instruction, function, known, depth, writes)
        if reason:
            return reason
        before = instruction
    inner = (_in_code(const, function, known, depth) for const in code.co_consts if isinstance(const, CodeType))
    return next(filter(None, inner), "")


def _stores(instruction: dis.Instruction, before: dis.Instruction | None, own: str, function: FunctionType) -> str:
    operation, name = instruction.opname, str(instruction.argval)
    if operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
        return f"writes the global {name}"
    if operation in ("STORE_DEREF", "DELETE_DEREF") and name in function.__code__.co_freevars:
        return f"writes {name}, which is not its own"
    if operation in ("STORE_ATTR", "DELETE_ATTR") and _loaded(before) != own:
        return f"sets the attribute {name} of another object than ctx"
    return ""


def _loaded(instruction: dis.Instruction | None) -> str:
    """The name that an instruction loaded last."""
    if instruction is None or not instruction.opname.startswith("LOAD_"):
        return ""
    loaded = instruction.argval
    return str(loaded[-1] if isinstance(loaded, tuple) else loaded)


def _reads(instruction: dis.Instruction, function: FunctionType, known: set[int], depth: int, writes: bool) -> str:
    operation, name = instruction.opname, str(instruction.argval)
    if operation == "IMPORT_NAME" and not _is_of_library(name):
        return f"imports {name}"
    if operation in ("LOAD_ATTR", "LOAD_METHOD") and name in WRITING:
        return f"calls {name}()"
    value, found = _value(operation, name, function)
    if not found:
        return ""
    if writes and isinstance(value, Tensor):
        return f"reads the tensor {name} and modifies tensors in place"
    reason = _about(value, known, depth - 1)
    return f"uses {name}, which {reason}" if reason else ""


def _value(operation: str, name: str, function: FunctionType) -> tuple[Any, bool]:
    """What a name stands for outside of the function."""
    if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
        for scope in (function.__globals__, vars(builtins)):
            if name in scope:
                return scope[name], True
    if operation in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_CLOSURE"):
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if name in cells:
            return _content(cells[name])
    return None, False


def _content(cell: Any) -> tuple[Any, bool]:
    try:
        return cell.cell_contents, True
    except ValueError:  # not yet filled
        return None, False


def _about(value: Any, known: set[int], depth: int) -> str:
    """Why a value must not be used; "" if it may be."""
    if is_plain(value) or isinstance(value, Tensor):
        return ""
    if isinstance(value, type):
        return _about_class(value, known)
    if isinstance(value, FunctionType):
        return _reason(value, known, depth)
    return _about_object(value)


def _about_object(value: Any) -> str:
    if isinstance(value, ModuleType):
        return "" if _is_of_library(value.__name__) or _is_binary(value) else "is a module"
    if isinstance(value, BuiltinFunctionType | MethodDescriptorType):
        return "must not be called twice" if value.__name__ in FORBIDDEN else _about_owner(value)
    if callable(value) and type(value).__module__ in ("torch._ops", "numpy"):
        return ""
    return f"is of type {type(value).__name__} and may remember"


def _about_owner(value: Any) -> str:
    """A method carries its object with it."""
    owner = getattr(value, "__self__", None)
    bound = owner is not None and not isinstance(owner, ModuleType | type) and not is_plain(owner)
    return "is a method of an object that may remember" if bound and not _is_of_library(_home(value)) else ""


def _about_class(cls: type, known: set[int]) -> str:
    if _is_of_library(cls.__module__) or issubclass(cls, Enum):
        return ""
    if issubclass(cls, torch.autograd.Function):
        if id(cls) in known:
            return ""
        known.add(id(cls))
        return impurity(cls)
    return "" if issubclass(cls, tuple) else "is a class and may remember"


def _writes_in_place(code: CodeType) -> bool:
    """Whether anything in the code may modify a tensor."""
    named = any(name.endswith("_") and not name.endswith("__") for name in code.co_names)
    out = any("out" in const for const in code.co_consts if isinstance(const, tuple))
    return named or out or any(map(_is_assignment, dis.get_instructions(code)))


def _is_assignment(instruction: dis.Instruction) -> bool:
    """`x[...] = y` or `x += y`."""
    operation = instruction.opname
    return operation == "STORE_SUBSCR" or (operation == "BINARY_OP" and instruction.argrepr.endswith("="))


def _is_of_library(name: str) -> bool:
    return name.partition(".")[0] in LIBRARIES


def _is_binary(module: ModuleType) -> bool:
    """A compiled extension: kernels, as a rule."""
    return (
        not str(getattr(module, "__file__", None) or "").endswith((".py", ".pyc"))
        and module.__name__ not in sys.stdlib_module_names
    )


def _home(function: Any) -> str:
    scope: Mapping[str, Any] = getattr(function, "__globals__", {})
    return str(scope.get("__name__") or getattr(function, "__module__", None) or "")
