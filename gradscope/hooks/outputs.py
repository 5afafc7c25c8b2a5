"""The tensors in whatever a module returns."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

DEEPEST = 6


def shape(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape; () for one that has none, nested or not yet filled."""
    nested = tensor.is_nested and tensor.layout is not torch.jagged
    return () if nested or is_lazy(tensor) else tuple(tensor.shape)


def tensors(output: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with its name: "" for a lone one, "0", "hidden.1" or "logits" in a structure."""
    if isinstance(output, Tensor):
        yield name, output
        return
    if depth == DEEPEST:
        return
    for key, item in _items(output):
        yield from tensors(item, f"{name}.{key}" if name else key, depth + 1)


def _items(output: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(output, Mapping):
        yield from ((str(key), value) for key, value in output.items())
    elif isinstance(output, tuple | list):
        yield from ((str(index), value) for index, value in enumerate(output))
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((item.name, getattr(output, item.name, None)) for item in fields(output))
