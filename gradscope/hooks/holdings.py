"""What optimizers hold: parameters of the watched model, others, and which parameters with gradients nobody holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer

from gradscope.hooks.alive import alive
from gradscope.hooks.frames import user_location
from gradscope.hooks.observers import Observer
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry
from gradscope.hooks.states import GradientStates
from gradscope.hooks.statistics import begins_with, some
from gradscope.inventory import OptimizerInfo, Orphan
from gradscope.traces import Location

MANY = 64
CLOSELY = 20
RARELY = 64
MOST = 1024

Signature = tuple[int, ...]


@dataclass(eq=False)
class Held:
    """What is known of one optimizer. `idle` are foreign tensors that had no gradient in any of its steps so far.

    `empty` says in which steps of the loop its last steps ran, if they found no gradient at all, `fed` in which the
    last one before them did.
    """

    optimizer: ReferenceType[Optimizer]
    name: str
    first: int
    location: Location | None
    steps: int = 0
    signature: Signature = ()
    paths: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    replaced: dict[str, None] = field(default_factory=dict)
    foreign: int = 0
    idle: list[tuple[ReferenceType[Tensor], tuple[int, ...]]] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    fed: int = -1

    def info(self) -> OptimizerInfo:
        """As data."""
        shapes = tuple(shape for _, shape in self.idle)
        return OptimizerInfo(
            self.name,
            self.paths,
            self.steps,
            self.first,
            self.location,
            self.doubled,
            tuple(self.replaced),
            self.foreign,
            shapes,
            self.empty[0] if len(self.empty) > 1 else None,
        )


class Holdings(Observer):
    """The optimizers that have stepped, and what they hold."""

    def __init__(self, registry: Registry, recorder: Recorder, states: GradientStates) -> None:
        self._registry = registry
        self._recorder = recorder
        self._states = states
        recorder.optimizers = self.infos
        self._held: dict[int, Held] = {}
        self._most = MANY
        self._noticed: dict[int, tuple[int, ReferenceType[Tensor], Tensor | None]] = {}

    def optimizer_stepped(self, optimizer: Optimizer, _owned: Indices) -> None:
        """Note what it holds, if that is not known."""
        held = self._held.get(id(optimizer))
        if held is None or held.optimizer() is not optimizer:
            held = self._meet(optimizer)
        held.steps += 1
        self._note_whether_fed(held, optimizer)
        signature = self._registry.generation, *(len(group["params"]) for group in optimizer.param_groups)
        if signature != held.signature:
            held.signature = signature
            self._look_into(held, optimizer)
        if held.idle and (held.steps <= CLOSELY or held.steps % RARELY == 0):
            held.idle = [known for known in held.idle if (tensor := known[0]()) is not None and _is_idle(tensor)]

    def step_closed(self, step: int) -> None:
        """Remember what the values of parameters are whose gradients no optimizer has used."""
        for i in self._states.touched().tolist():
            parameter = self._registry.parameters[i].parameter
            known = self._noticed.get(id(parameter))
            if (known is None or known[1]() is not parameter) and len(self._noticed) < MOST:
                self._noticed[id(parameter)] = step, ref(parameter), some(parameter)

    def infos(self) -> tuple[OptimizerInfo, ...]:
        """The optimizers as data, in the order of their first steps."""
        return tuple(held.info() for held in self._held.values())

    def run_ends(self) -> None:
        """Note which parameters nobody has trained."""
        alone = not self._registry.executed or self._abandoned()
        double = alone and self._double()
        self._recorder.inventory = replace(self._recorder.inventory, orphans=tuple(self._orphans()), double=double)

    def _note_whether_fed(self, held: Held, optimizer: Optimizer) -> None:
        step = self._recorder.log.index
        if _is_empty(optimizer):
            held.empty = [*held.empty[:1], max(step, held.fed + 1)]
        else:
            held.empty, held.fed = [], step

    def _orphans(self) -> Iterator[Orphan]:
        """Trainable parameters that receive gradients, are in no optimizer and have not moved. Waits for the device."""
        infos = [info for info in self._registry.infos() if info.trainable and info.contributions]
        now = {path for held in self._held.values() for path in held.paths}
        replaced = {path for held in self._held.values() for path in held.replaced} - now
        alone = {info.path for info in infos if not info.optimizer_steps or info.path in replaced}
        items = [item for item in self._registry.parameters if item.path in alone]
        since = [self._unmoved_since(item.parameter) for item in items] if self._held else []
        if since.count(None) == len(since):  # the look at the whole process is not cheap
            return
        elsewhere = held_anywhere()
        for item, step in zip(items, since, strict=True):
            if step is not None and id(item.parameter) not in elsewhere:
                quiet = not self._registry.trains(item.module)
                yield Orphan(item.path, item.module, tuple(item.parameter.shape), step, quiet)

    def _abandoned(self) -> bool:
        """Whether an optimizer of this model goes on stepping, and finds no gradient any more."""
        return any(held.paths and len(held.empty) > 1 for held in self._held.values())

    def _double(self) -> bool:
        """Whether a part of another model ran that looks like one of this, has gradients and is in no optimizer."""
        shapes = {tuple(item.parameter.shape) for item in self._registry.parameters if not is_lazy(item.parameter)}
        tables = [module._parameters.values() for module in self._registry.foreign()]
        held = (tensor for table in tables for tensor in table if tensor is not None and tensor.grad is not None)
        alone = [tensor for tensor in held if tuple(tensor.shape) in shapes]
        elsewhere = held_anywhere() if alone else set()
        return any(id(tensor) not in elsewhere for tensor in alone)

    def _unmoved_since(self, parameter: Tensor) -> int | None:
        """The step since which a parameter was noticed and has not moved; None if it has, or nobody knows."""
        step, known, before = self._noticed.get(id(parameter), (0, None, None))
        return step if known is not None and known() is parameter and begins_with(parameter, before) else None

    def _meet(self, optimizer: Optimizer) -> Held:
        if len(self._held) >= self._most:  # a program that makes optimizers all the time
            self._held = {key: held for key, held in self._held.items() if held.optimizer() is not None}
            self._most = max(MANY, 2 * len(self._held))
        step, name = self._recorder.log.index, type(optimizer).__name__
        held = self._held[id(optimizer)] = Held(ref(optimizer), name, step, user_location())
        return held

    def _look_into(self, held: Held, optimizer: Optimizer) -> None:
        index, items = self._registry.index, self._registry.parameters
        tensors = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        owned = [items[index[id(tensor)]].path for tensor in tensors if id(tensor) in index]
        foreign = [tensor for tensor in tensors if id(tensor) not in index]
        paths = tuple(dict.fromkeys(owned))
        missing = set(held.paths).difference(paths)
        held.replaced |= dict.fromkeys(item.path for item in items if item.path in missing) if missing else {}
        held.doubled = tuple(path for path in paths if owned.count(path) > 1) if len(owned) > len(paths) else ()
        held.paths, held.foreign = paths, len(foreign)
        held.idle = [(ref(tensor), tuple(tensor.shape)) for tensor in foreign if _is_idle(tensor)]


def held_anywhere() -> set[int]:
    """The ids of all tensors in all optimizers of the process."""
    groups = (group for optimizer in alive(Optimizer) for group in vars(optimizer).get("param_groups", ()))
    return {id(tensor) for group in groups for tensor in group["params"]}


def _is_empty(optimizer: Optimizer) -> bool:
    """Whether nothing that it holds has a gradient."""
    return all(parameter.grad is None for group in optimizer.param_groups for parameter in group["params"])


def _is_idle(tensor: Tensor) -> bool:
    """Whether a tensor holds no gradient, or zeros only; on a device that is not asked."""
    gradient = tensor.grad
    if gradient is None:
        return True
    return gradient.device.type == "cpu" and gradient.layout is torch.strided and not gradient.any()
