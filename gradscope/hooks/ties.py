"""Parameters that were one and are two: torch ties weights by identity, which copies of a state lose."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gradscope.hooks.registry import Registry, Watched
from gradscope.hooks.statistics import begins_with, some
from gradscope.inventory import BrokenTie


class Ties:
    """Knows which parameters go by several names, and notices when they part."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = registry.generation
        self._groups = _groups(registry.parameters)

    def at_first(self) -> Iterator[BrokenTie]:
        """An embedding and an output layer of equal weights that are two tensors. Waits for the device."""
        modules = {path: module for module, path in self._registry.modules()}
        items = [item for item in self._registry.parameters if item.name == "weight" and item.parameter.requires_grad]
        embeddings = [item for item in items if isinstance(modules.get(item.module), nn.Embedding)]
        for item in items if embeddings else ():
            if isinstance(modules.get(item.module), nn.Linear):
                twin = next((other for other in embeddings if _equal(item.parameter, other.parameter)), None)
                if twin is not None:
                    yield BrokenTie(twin.path, item.path)

    def lost(self, step: int) -> Iterator[BrokenTie]:
        """Names that stood for one parameter and stand for several of equal values since the model has changed."""
        if self._generation == self._registry.generation:
            return
        self._generation = self._registry.generation
        before, self._groups = self._groups, _groups(self._registry.parameters)
        now = {path: item for item in self._registry.parameters for path in (item.path, *item.aliases)}
        for first, *others in before:
            for other in others:
                one, two = now.get(first), now.get(other)
                if one and two and one is not two and _equal(one.parameter, two.parameter):
                    yield BrokenTie(first, other, step, lost=True)


def _groups(items: Sequence[Watched]) -> list[tuple[str, ...]]:
    return [(item.path, *item.aliases) for item in items if item.aliases]


def _equal(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors of their own hold the same values, which are not all one."""
    if type(one) is not nn.Parameter or type(two) is not nn.Parameter or one.shape != two.shape:
        return False
    if one.dtype != two.dtype or one.device != two.device or one.device.type == "meta":
        return False
    if one.untyped_storage().data_ptr() == two.untyped_storage().data_ptr():
        return False
    alike = begins_with(two, some(one)) and torch.equal(one, two)
    return alike and bool((one != one.flatten()[0]).any())
