"""Whether the model trains in evaluation mode, where that makes a difference."""

from operator import attrgetter

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.optimizer import Optimizer

from gradscope.hooks.observers import Observer
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry
from gradscope.records import Call

MANY = 64
TRAINING = attrgetter("training")
FLOWS = int(Call.GRAD | Call.OUTPUT_REQUIRES_GRAD)


class Evaluation(Observer):
    """Looks at modes when a backward begins and when an optimizer has stepped; training mode costs nothing."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._quiet: frozenset[str] = frozenset()

    def backward_begins(self) -> None:
        """Take notice of which of the watched models are in evaluation mode."""
        self._quiet = frozenset(name for name, root in self._registry.roots.items() if not root.training)

    def step_observed(self, owned: Indices) -> None:
        """Note the modules that behaved otherwise than in training."""
        quiet = self._behaved_otherwise(owned) if self._quiet else ()
        if quiet:
            self._recorder.log.amend_event(evaluating=quiet)

    def _behaved_otherwise(self, owned: Indices) -> tuple[str, ...]:
        """The modules that behaved otherwise than in training while these parameters learned.

        None of them if any of these parameters' modules is in training mode: then somebody has chosen the modes.
        """
        items = [self._registry.parameters[i] for i in owned.tolist()]
        homes = {item.module for item in items if item.parameter.grad is not None}
        modules = {path: module for module, path in self._registry.modules()}
        quiet = {name for name in self._quiet if not self._registry.roots[name].training}
        if not homes or any(path in modules and modules[path].training for path in homes):
            return ()
        if any(_root(path, quiet) is None for path in homes):
            return ()
        return tuple(path for path in self._ran() if path in modules and _is_quiet(modules[path]))

    def _ran(self) -> list[str]:
        """The modules that ran in this step, and whose output requires grad."""
        calls = self._recorder.log.calls
        return [self._registry.executed[row].path for row, flags in calls.items() if flags & FLOWS == FLOWS]


class Modes:
    """Notices an optimizer that steps in another mode than before: then the next steps are observed closely."""

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._known: dict[int, tuple[bool, ...]] = {}

    def changed(self, optimizer: Optimizer) -> bool:
        """An optimizer has stepped: are the watched models in another mode than after its last step?"""
        now = tuple(map(TRAINING, self._registry.roots.values()))
        if len(self._known) >= MANY:  # a program that makes optimizers all the time
            self._known.clear()
        before, self._known[id(optimizer)] = self._known.get(id(optimizer), now), now
        if now != before:
            self._recorder.cadence.watch_closely(self._recorder.log.index + 1)
        return now != before


def _root(path: str, names: set[str]) -> str | None:
    return next((name for name in names if not name or path == name or path.startswith(f"{name}.")), None)


def _is_quiet(module: nn.Module) -> bool:
    """Whether it is in evaluation mode, and that makes a difference."""
    if module.training:
        return False
    if isinstance(module, _NormBase):
        return module.running_mean is not None
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    return isinstance(module, nn.MultiheadAttention) and module.dropout > 0
