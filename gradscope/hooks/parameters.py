"""Measures parameters, their gradients and their updates, once per observed step."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry, Watched
from gradscope.records import Kind

SAMPLED = 65_536

Signature = tuple[int, ...]


class Parameters:
    """Measures the parameters of the watched model.

    The update needs the value from before the step. Of parameters above `SAMPLED` elements only that many,
    evenly spaced, are copied for it; their update's statistics are scaled to the whole.
    """

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._before: dict[int, Tensor] = {}
        self._owned: WeakKeyDictionary[torch.optim.Optimizer, tuple[Signature, list[int]]] = WeakKeyDictionary()

    def owned(self, optimizer: torch.optim.Optimizer) -> list[int]:
        """The indices of the watched parameters that an optimizer owns."""
        groups = optimizer.param_groups
        signature = (self._registry.generation, *(len(group["params"]) for group in groups))
        known = self._owned.get(optimizer)
        if known is None or known[0] != signature:
            self._registry.refresh()  # a new optimizer often comes with a changed model
            signature = (self._registry.generation, *signature[1:])
            index = self._registry.index
            indices = [index[id(p)] for group in groups for p in group["params"] if id(p) in index]
            known = self._owned[optimizer] = (signature, indices)
        return known[1]

    def add_sites(self, row: int) -> None:
        """Make the sites of a module's parameters, so that they stand behind its output."""
        for item in self._registry.under(row):
            for kind in (Kind.PARAMETER, Kind.PARAMETER_GRADIENT, Kind.UPDATE):
                self._site(kind, item, item.parameter)

    def before(self) -> None:
        """Remember the values that the coming step will change."""
        if not self._before:
            for i, item in enumerate(self._registry.parameters):
                parameter = item.parameter
                if parameter.requires_grad and statistics.obstacle(parameter) is None:
                    self._before[i] = _sample(parameter.detach()).clone()

    def gradients(self, indices: Iterable[int]) -> None:
        """Measure what `.grad` holds now. After a step it is unscaled: fused optimizers write that back, too."""
        for i in indices:
            item = self._registry.parameters[i]
            gradient = item.parameter.grad
            if gradient is None:
                continue
            site = self._site(Kind.PARAMETER_GRADIENT, item, gradient)
            if site is not None:
                self._recorder.measure_last(site, gradient.detach())

    def after(self, indices: Iterable[int]) -> None:
        """Measure the values after a step, and how far it moved them."""
        for i in indices:
            item = self._registry.parameters[i]
            parameter = item.parameter.detach()
            site = self._site(Kind.PARAMETER, item, item.parameter)
            if site is None:
                continue
            self._recorder.measure_last(site, parameter)
            before = self._before.get(i)
            if before is not None:
                self._measure_update(item, parameter, before)

    def forget(self) -> None:
        """A step is over: the values from before it are no longer needed."""
        self._before.clear()

    def _measure_update(self, item: Watched, parameter: Tensor, before: Tensor) -> None:
        site = self._site(Kind.UPDATE, item, item.parameter)
        after = _sample(parameter)
        if site is not None and after.shape == before.shape:
            scale = statistics.flatten(parameter).numel() / before.numel()
            self._recorder.measure_last(site, after - before, scale, shaped_like=parameter)

    def _site(self, kind: Kind, item: Watched, tensor: Tensor) -> int | None:
        return self._recorder.site(kind, item.module, item.module_type, item.name, tensor, *item.aliases)


def _sample(parameter: Tensor) -> Tensor:
    flat = statistics.flatten(parameter)
    return flat if flat.numel() <= SAMPLED else flat[:: -(-flat.numel() // SAMPLED) | 1]
