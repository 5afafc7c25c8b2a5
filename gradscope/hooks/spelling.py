"""What torch functions are called in a trace, and what their names tell."""

from typing import Any

from gradscope.dataflow import EXITS as NUMBERS

EXITS = NUMBERS | {"__bool__"}
SHAPED = frozenset({"empty_like", "full_like", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like"})

_SPOKEN = {"__floordiv__": "floor_divide", "__rdiv__": "div", "__rmatmul__": "matmul"}
_KEPT = frozenset({"__getitem__", "__setitem__", "__deepcopy__", *EXITS})
_ATTRIBUTES = frozenset({"data", "T", "mT", "H", "mH", "real", "imag"})
_OPERATORS = frozenset(
    {"add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"}
)
_QUIET = frozenset(
    {"size", "dim", "numel", "stride", "is_floating_point", "is_complex", "data_ptr", "untyped_storage", "element_size"}
    | {"get_device", "is_contiguous", "storage_offset", "nelement", "ndimension", "register_hook", "retain_grad"}
    | {"_set_grad_enabled", "is_same_size", "share_memory_", "__len__", "__repr__", "__format__", "__hash__"}
)


def spoken(func: Any) -> str:
    """What a torch function is called; "" for one that tells about a tensor and computes nothing."""
    name = str(getattr(func, "__name__", func))
    if name in ("__get__", "__set__"):
        attribute = str(getattr(getattr(func, "__self__", None), "__name__", ""))
        if name == "__set__":
            return "data_" if attribute == "data" else ""
        return attribute if attribute in _ATTRIBUTES else ""
    if name in _QUIET:
        return ""
    if name in _SPOKEN or name in _KEPT or not name.startswith("__"):
        return _SPOKEN.get(name, name)
    bare = name.strip("_")
    return f"{bare[1:]}_" if bare.startswith("i") and bare[1:] in _OPERATORS else bare


def in_place(name: str) -> bool:
    """Whether a function of this name changes its first argument."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def writes(name: str) -> bool:
    """Whether it changes that argument's values, and not only whether it belongs to a graph."""
    return in_place(name) and name not in ("detach_", "requires_grad_")
