"""What modules really return and which gradients really come back, found without gradscope.

A view that is modified in place after a module has returned it loses its tensor hooks. Where the first run shows
that, a second one gives on a clone of the view, to which nothing can happen.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from math import isclose
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gradscope.records import Kind, Recording

CLOSE = 1e-3


@dataclass
class Tally:
    """How many elements were seen, and the sum of their squares."""

    elements: int = 0
    squares: float = 0.0

    def add(self, tensor: Tensor) -> None:
        """Count a tensor of any shape."""
        self.elements += tensor.numel() * (2 if tensor.is_complex() else 1)
        self.squares += float(torch.linalg.vector_norm(tensor.detach(), dtype=_wide(tensor))) ** 2

    def agrees(self, other: "Tally | None") -> bool:
        """Whether another way of counting gave the same, up to rounding."""
        if other is None or self.elements != other.elements:
            return False
        return isclose(self.squares, other.squares, rel_tol=CLOSE, abs_tol=1e-30) or self.squares != self.squares


Tallies = dict[str, Tally]
Output = tuple[str, int]


@dataclass
class Reference:
    """Counts what the modules of a model return in one step, and the gradients that come back.

    `cloned` are the outputs of which clones are passed on: a module, and which of its tensors.
    """

    cloned: frozenset[Output] = frozenset()
    modules: set[str] = field(default_factory=set)
    activations: Tallies = field(default_factory=lambda: defaultdict(Tally))
    gradients: Tallies = field(default_factory=lambda: defaultdict(Tally))
    _leaves: dict[tuple[Output, int], Tensor] = field(default_factory=dict)
    _views: list[tuple[Output, Tensor, int]] = field(default_factory=list)

    @property
    def modified(self) -> frozenset[Output]:
        """The outputs that were views which something modified in place."""
        return frozenset(output for output, view, version in self._views if view._version != version)

    def attach(self, model: nn.Module) -> None:
        """Register hooks on every module; the model is for nothing else after that."""
        for path, module in model.named_modules():
            module.register_forward_hook(partial(self._after_forward, path))

    def _after_forward(self, path: str, _module: nn.Module, _args: Any, output: Any) -> Any:
        self.modules.add(path)
        again = torch._C._current_graph_task_id() != -1 and path in self.activations
        if not torch.is_grad_enabled():
            return None
        leaves, structure = tree_flatten(output)
        return tree_unflatten([self._seen((path, i), again, leaf) for i, leaf in enumerate(leaves)], structure)

    def _seen(self, output: Output, again: bool, tensor: Any) -> Any:
        if not isinstance(tensor, Tensor) or not _measurable(tensor):
            return tensor
        path = output[0]
        if not again:  # a checkpoint's second pass is no second call
            self.activations[path].add(tensor)
        if not tensor.requires_grad:
            return tensor
        if tensor.is_leaf:
            if (output, id(tensor)) in self._leaves:  # the hook of an earlier call will see the whole gradient
                return tensor
            self._leaves[output, id(tensor)] = tensor
        tensor.register_hook(partial(self._arrived, path))
        if output in self.cloned:
            return tensor.clone()
        if tensor._is_view():
            self._views.append((output, tensor, tensor._version))
        return tensor

    def _arrived(self, path: str, gradient: Tensor | None) -> None:
        if gradient is not None:
            self.gradients[path].add(gradient)


def measured(recording: Recording, kind: Kind) -> Tallies:
    """What gradscope has measured of each module in the first step."""
    tallies: Tallies = defaultdict(Tally)
    for site, (count, _, squares, _, _) in _rows(recording, kind):
        if count:
            tally = tallies[site]
            tally.elements, tally.squares = tally.elements + int(count), tally.squares + squares
    return dict(tallies)


def _rows(recording: Recording, kind: Kind) -> Iterator[tuple[str, Any]]:
    for site, row in zip(recording.sites, recording.stored[0], strict=True):
        if site.kind is kind:
            yield site.module, row


def _measurable(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() > 0


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64
