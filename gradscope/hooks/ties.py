"""Parameters that were one and are two: torch ties weights by identity, which copies of a state lose."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gradscope.hooks.observers import Observer
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry, Watched
from gradscope.hooks.statistics import begins_with, some
from gradscope.inventory import BrokenTie


class Ties(Observer):
    """Knows which parameters go by several names, and notices when they part."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._generation = registry.generation
        self._groups = _groups(registry.parameters)

    def run_begins(self) -> None:
        """Note what was meant to be one."""
        self._note(self._at_first())

    def backward_begins(self) -> None:
        """Note what has been one, if the model has changed."""
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._note(self._lost())

    def _note(self, ties: Iterator[BrokenTie]) -> None:
        inventory = self._recorder.inventory
        self._recorder.inventory = replace(inventory, ties=(*inventory.ties, *ties))

    def _at_first(self) -> Iterator[BrokenTie]:
        """An embedding and an output layer of equal weights that are two tensors. Waits for the device."""
        modules = {path: module for module, path in self._registry.modules()}
        items = [item for item in self._registry.parameters if item.name == "weight" and item.parameter.requires_grad]
        embeddings = [item for item in items if isinstance(modules.get(item.module), nn.Embedding)]
        for item in items if embeddings else ():
            if isinstance(modules.get(item.module), nn.Linear):
                twin = next((other for other in embeddings if _equal(item.parameter, other.parameter)), None)
                if twin is not None:
                    yield BrokenTie(twin.path, item.path)

    def _lost(self) -> Iterator[BrokenTie]:
        """Names that stood for one parameter and now stand for several of equal values."""
        before, self._groups = self._groups, _groups(self._registry.parameters)
        now = {path: item for item in self._registry.parameters for path in (item.path, *item.aliases)}
        for first, *others in before:
            for other in others:
                one, two = now.get(first), now.get(other)
                if one and two and one is not two and _equal(one.parameter, two.parameter):
                    yield BrokenTie(first, other, self._recorder.log.index, lost=True)


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
