"""Measures parameters, their gradients and their updates, once per observed step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import attrgetter
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gradscope.hooks.copies import Saved, save
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry, Watched
from gradscope.hooks.transfer import UNMEASURABLE, Ticket
from gradscope.records import Kind

Signature = tuple[int, ...]

KINDS = (Kind.PARAMETER, Kind.PARAMETER_GRADIENT, Kind.UPDATE)
REQUIRES_GRAD = attrgetter("requires_grad")
Measured = Callable[[Tensor], Tensor | None]  # what of a parameter is measured


class Group:
    """Parameters that are measured together; `sites` are those of a kind, once all are known."""

    def __init__(self, indices: Indices, items: list[Watched]) -> None:
        self.indices: list[int] = indices.tolist()
        self.whole = self.indices == list(range(len(items)))
        self.items = [items[i] for i in self.indices]
        self.tensors = [item.parameter for item in self.items]
        self.sites: dict[Kind, list[int]] = {}


class Parameters:
    """Measures the parameters of the watched model.

    The update needs the value from before the step. Of large parameters only a sample is saved for it, evenly
    spread; the statistics of their values and updates are those of that sample, scaled to the whole.
    """

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._before: list[Saved] = []
        self._kept_before: dict[int, Tensor] = {}
        self._owned: WeakKeyDictionary[torch.optim.Optimizer, tuple[Signature, Indices]] = WeakKeyDictionary()
        self._generation = 0
        self._tensors: list[Tensor] = []
        self._known: dict[Kind, dict[int, int]] = {kind: {} for kind in KINDS}
        self._last: tuple[Indices, Group] | None = None

    def owned(self, optimizer: torch.optim.Optimizer) -> Indices:
        """The indices of the watched parameters that an optimizer owns."""
        groups = optimizer.param_groups
        signature = (self._registry.generation, *(len(group["params"]) for group in groups))
        known = self._owned.get(optimizer)
        if known is None or known[0] != signature:
            self._registry.refresh()  # a new optimizer often comes with a changed model
            signature = (self._registry.generation, *signature[1:])
            index = self._registry.index
            indices = [index[id(p)] for group in groups for p in group["params"] if id(p) in index]
            known = self._owned[optimizer] = (signature, np.array(indices, np.intp))
        return known[1]

    def add_sites(self, row: int) -> None:
        """Make the sites of a module's parameters, so that they stand behind its output."""
        for item in self._registry.under(row):
            for kind in KINDS:
                self._site(kind, item, item.parameter)

    def before(self) -> None:
        """Remember the values that the coming step will change."""
        self._follow_registry()
        if self._before:
            return
        items, tensors = self._registry.parameters, self._tensors
        trained = list(map(REQUIRES_GRAD, tensors))
        saved = iter(save(tensors if all(trained) else [*compress(tensors, trained)]))
        self._before = [next(saved) if chosen else None for chosen in trained]
        if self._recorder.keep:
            wanted = (i for i, item in enumerate(items) if self._recorder.kept.wants(item.path, item.module))
            self._kept_before = {i: tensors[i].detach().clone() for i in wanted if trained[i]}

    def gradients(self, indices: Indices) -> None:
        """Measure what `.grad` holds now. After a step it is unscaled: fused optimizers write that back, too."""
        group = self._grouped(indices)
        tickets = self._recorder.readback.gradients(group.tensors)
        self._note(Kind.PARAMETER_GRADIENT, group, tickets, attrgetter("grad"))

    def after(self, indices: Indices) -> None:
        """Measure the values after a step, and how far it moved them."""
        group = self._grouped(indices)
        before = self._before if group.whole or not self._before else [self._before[i] for i in group.indices]
        if not before:
            self._note(Kind.PARAMETER, group, self._recorder.readback.estimate_all(group.tensors), _itself)
            return
        values, moves = self._recorder.readback.stepped(group.tensors, before)
        self._note(Kind.PARAMETER, group, values, _itself)
        self._note(Kind.UPDATE, group, moves, _if_trained)

    def forget(self) -> None:
        """A step is over: the values from before it are no longer needed."""
        self._before = []
        self._kept_before.clear()

    def _kept_update(self, i: int) -> Tensor | None:
        before, now = self._kept_before.get(i), self._registry.parameters[i].parameter.detach()
        return now - before if before is not None and before.shape == now.shape else None

    def _follow_registry(self) -> None:
        """The values from before stand under the indices of their time."""
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._known = {kind: {} for kind in KINDS}
            self._tensors = [item.parameter for item in self._registry.parameters]
            self._last = None
            self.forget()

    def _grouped(self, indices: Indices) -> Group:
        """These parameters; mostly they are those of the last time."""
        self._follow_registry()
        if self._last is None or self._last[0] is not indices:
            self._last = indices, Group(indices, self._registry.parameters)
        return self._last[1]

    def _note(self, kind: Kind, group: Group, tickets: Sequence[Ticket], measured: Measured) -> None:
        """Note measurements at the parameters' sites."""
        sites = group.sites.get(kind)
        good: Sequence[int] = range(len(tickets))
        if sites is None or UNMEASURABLE in tickets:
            found = list(self._found(kind, group, tickets, measured))
            good = [p for p, site in enumerate(found) if site is not None]
            sites, tickets = [site for site in found if site is not None], [tickets[p] for p in good]
            if len(sites) == len(found):
                group.sites[kind] = sites
        kept = (
            self._kept_update(group.indices[p]) if kind is Kind.UPDATE else measured(group.tensors[p]) for p in good
        )
        self._recorder.measured_last(sites, tickets, kept)

    def _found(self, kind: Kind, group: Group, tickets: Sequence[Ticket], measured: Measured) -> Iterator[int | None]:
        """The site of each; None of one whose tensor was not measured, which is noted where it could not be."""
        known = self._known[kind]
        for i, item, ticket in zip(group.indices, group.items, tickets, strict=True):
            site = known.get(i)
            if site is None or ticket == UNMEASURABLE:
                tensor = measured(item.parameter)
                site = None if tensor is None else self._site(kind, item, tensor)
            if site is not None and ticket != UNMEASURABLE:
                known[i] = site
            yield None if ticket == UNMEASURABLE else site

    def _site(self, kind: Kind, item: Watched, tensor: Tensor) -> int | None:
        return self._recorder.site(kind, item.module, item.module_type, item.name, tensor, *item.aliases)


def _itself(parameter: Tensor) -> Tensor:
    return parameter


def _if_trained(parameter: Tensor) -> Tensor | None:
    return parameter if parameter.requires_grad else None
