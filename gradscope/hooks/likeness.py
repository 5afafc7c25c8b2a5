"""Weights whose units are all alike: looked for once, when the run is over."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.observers import Observer
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry
from gradscope.inventory import Likeness

NEARLY = 0.01
MATRIX = FEWEST = 2  # a single number per unit may be equal by chance, as after the sign of each gradient


class Likenesses(Observer):
    """Looks for them."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder

    def run_ends(self) -> None:
        """Note them."""
        found = tuple(likenesses(self._registry))
        self._recorder.inventory = replace(self._recorder.inventory, likenesses=found)


def likenesses(registry: Registry) -> Iterator[Likeness]:
    """Trainable weights all of whose rows, or columns, are nearly equal. Waits for the device."""
    for item in registry.parameters:
        weight = item.parameter
        if not weight.requires_grad or weight.ndim < MATRIX or statistics.obstacle(weight) is not None:
            continue
        with statistics.undisturbed():
            rows = weight.detach().flatten(1)
            spread = _spread(rows)
            if spread is not None:
                yield Likeness(item.path, len(rows), spread)
            elif weight.ndim == MATRIX and (spread := _spread(rows.T)) is not None:
                yield Likeness(item.path, rows.shape[1], spread, columns=True)


def _spread(units: Tensor) -> float | None:
    """The largest difference between a unit and the first one, if it is small; most weights need one look at two."""
    if min(units.shape) < FEWEST:
        return None
    first = units[0]
    limit = NEARLY * float(first.abs().max())
    if not limit > 0 or float((units[-1] - first).abs().max()) > limit:
        return None
    spread = float((units - first).abs().max())
    return spread if spread <= limit else None
