"""Measures parameters, their gradients and their updates, once per observed step."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry, Watched
from gradscope.hooks.transfer import Saved, Ticket
from gradscope.records import Kind

Signature = tuple[int, ...]

KINDS = (Kind.PARAMETER, Kind.PARAMETER_GRADIENT, Kind.UPDATE)
UNKNOWN = -1


class Parameters:
    """Measures the parameters of the watched model.

    The update needs the value from before the step. Of large parameters only a sample is saved for it, evenly
    spread; the statistics of their values and updates are those of that sample, scaled to the whole.
    """

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._before: dict[int, Saved] = {}
        self._kept_before: dict[int, Tensor] = {}
        self._owned: WeakKeyDictionary[torch.optim.Optimizer, tuple[Signature, Indices]] = WeakKeyDictionary()
        self._sites: dict[Kind, list[int]] = {}
        self._generation = 0

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
        if self._before:
            return
        items = self._registry.parameters
        chosen = [i for i, item in enumerate(items) if item.parameter.requires_grad]
        saved = self._recorder.readback.save([items[i].parameter for i in chosen])
        self._before = dict(zip(chosen, saved, strict=True))
        if self._recorder.keep:
            kept = (i for i in chosen if self._recorder.kept.wants(items[i].path, items[i].module))
            self._kept_before = {i: items[i].parameter.detach().clone() for i in kept}

    def gradients(self, indices: Indices) -> None:
        """Measure what `.grad` holds now. After a step it is unscaled: fused optimizers write that back, too."""
        items = self._registry.parameters
        found = {i: grad for i in indices.tolist() if (grad := items[i].parameter.grad) is not None}
        chosen, tensors = list(found), list(found.values())
        self._note(Kind.PARAMETER_GRADIENT, chosen, tensors, self._recorder.readback.measure_all(tensors), tensors)

    def after(self, indices: Indices) -> None:
        """Measure the values after a step, and how far it moved them."""
        items, chosen = self._registry.parameters, indices.tolist()
        values = [items[i].parameter for i in chosen]
        self._note(Kind.PARAMETER, chosen, values, self._recorder.readback.estimate_all(values), values)
        moved = [i for i in chosen if i in self._before]
        tensors = [items[i].parameter for i in moved]
        tickets = self._recorder.readback.moved(tensors, [self._before[i] for i in moved])
        kept = [self._kept_update(i) for i in moved] if self._kept_before else ()
        self._note(Kind.UPDATE, moved, tensors, tickets, kept)

    def forget(self) -> None:
        """A step is over: the values from before it are no longer needed."""
        self._before.clear()
        self._kept_before.clear()

    def _kept_update(self, i: int) -> Tensor | None:
        before, now = self._kept_before.get(i), self._registry.parameters[i].parameter.detach()
        return now - before if before is not None and before.shape == now.shape else None

    def _note(
        self,
        kind: Kind,
        indices: list[int],
        tensors: Sequence[Tensor],
        tickets: Sequence[Ticket],
        kept: Sequence[Tensor | None],
    ) -> None:
        """Note measurements at the parameters' sites; whose tensor cannot be measured has none."""
        known = self._known_sites(kind)
        sites = [known[i] for i in indices]
        if UNKNOWN in sites or UNKNOWN in tickets:
            items = self._registry.parameters
            found = [self._site(kind, items[i], tensor) for i, tensor in zip(indices, tensors, strict=True)]
            for i, site in zip(indices, found, strict=True):
                known[i] = UNKNOWN if site is None else site
            good = [p for p, site in enumerate(found) if site is not None and tickets[p] != UNKNOWN]
            sites, tickets = [known[indices[p]] for p in good], [tickets[p] for p in good]
            kept = [kept[p] for p in good] if kept else ()
        self._recorder.measured_last(sites, tickets, kept)

    def _known_sites(self, kind: Kind) -> list[int]:
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._sites = {each: [UNKNOWN] * len(self._registry.parameters) for each in KINDS}
        return self._sites[kind]

    def _site(self, kind: Kind, item: Watched, tensor: Tensor) -> int | None:
        return self._recorder.site(kind, item.module, item.module_type, item.name, tensor, *item.aliases)
