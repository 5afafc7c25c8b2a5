"""Gradients that the loss of another optimizer has left, and that a step uses together with its own.

    backward (of B's loss, reaches A) -- B steps -- backward (of A's loss, reaches B) -- A steps -- B clears, and steps

Of other optimizers, which may train other models, a few gradients are looked at before each forward and after each
backward.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import ReferenceType, ref

from torch import Tensor
from torch.optim.optimizer import Optimizer

from gradscope.events import Leaked
from gradscope.hooks.frames import user_location
from gradscope.hooks.marks import version
from gradscope.hooks.observers import Observer
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry
from gradscope.hooks.states import GradientStates

SAMPLE = 4
MOST = 8
PAIR = 2

Look = list[tuple["ReferenceType[Tensor] | None", int]]


@dataclass(eq=False)
class _Other:
    """An optimizer that has stepped, with what a few of its gradients were when the last backward had ended."""

    optimizer: "ReferenceType[Optimizer]"
    name: str
    sample: list[Tensor]
    before: Look = field(default_factory=list)
    held: Look = field(default_factory=list)
    received: bool = False
    stepped: bool = True
    left: set[int] = field(default_factory=set)
    mixed: set[int] = field(default_factory=set)
    added: set[int] = field(default_factory=set)
    suspect: tuple[Leaked, Look] | None = None


class Leaks(Observer):
    """Follows what each optimizer leaves to the others. Costs nothing while there is one."""

    def __init__(self, registry: Registry, recorder: Recorder, states: GradientStates) -> None:
        self._registry = registry
        self._recorder = recorder
        self._states = states
        self._others: dict[int, _Other] = {}
        self._unused: set[int] = set()  # of those that the last backward reached; mostly none is left
        self._generation = 0

    def forward_begins(self) -> None:
        """Remember what the others hold; when a backward begins here, it may have been with them already."""
        if len(self._others) >= PAIR:
            for other in self._others.values():
                other.before = _look(other.sample)

    def backward_begins(self) -> None:
        """What was cleared since is left to nobody."""
        if len(self._others) < PAIR:
            return
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            for other in self._others.values():
                other.left, other.mixed, other.added = set(), set(), set()
        waiting = set(self._states.touched().tolist()) if any(other.left for other in self._others.values()) else set()
        for other in self._others.values():
            other.left &= waiting
            other.mixed &= waiting
            other.added &= waiting

    def backward_ends(self) -> None:
        """Who has received a gradient, here and of the other optimizers'."""
        if len(self._others) < PAIR:
            return
        received = self._unused = set(self._states.received.tolist())
        for other in self._others.values():
            same, other.held = _same(other.sample, other.before), _look(other.sample)
            other.received = not same and any(gradient is not None for gradient, _ in other.held)
            other.stepped, other.before = False, other.held
            if other.received:
                other.mixed |= other.left & received
            else:
                other.added |= other.left & received

    def optimizer_stepped(self, optimizer: Optimizer, owned: Indices) -> None:
        """Note what it uses of others, and what it leaves to them."""
        stepper = self._known(optimizer)
        if len(self._others) < PAIR:
            return
        own = set(owned.tolist())
        self._unused -= own
        if stepper is None:
            return
        self._settle(stepper)
        if own:
            self._use(stepper, own)
        if self._unused and stepper.received and not stepper.stepped and _same(stepper.sample, stepper.held):
            stepper.left |= self._unused
        stepper.stepped = True

    def _known(self, optimizer: Optimizer) -> _Other | None:
        key = id(optimizer)
        known = self._others.get(key)
        if known is not None and known.optimizer() is optimizer:
            return known
        self._others = {key: other for key, other in self._others.items() if other.optimizer() is not None}
        if len(self._others) >= MOST:
            return None
        parameters = [each for group in optimizer.param_groups for each in group["params"] if each.requires_grad]
        sample = parameters[:: max(1, len(parameters) // SAMPLE)][:SAMPLE]
        self._others[key] = _Other(ref(optimizer), type(optimizer).__name__, sample)
        return self._others[key]

    def _use(self, stepper: _Other, owned: set[int]) -> None:
        """A step uses gradients of this model: also such as another optimizer has left?"""
        alone = not any(other.received for other in self._others.values() if other is not stepper)
        for other in self._others.values():
            mixed = (other.mixed or (other.added if alone else set())) & owned
            if other is not stepper and mixed and not other.stepped:
                other.suspect = self._leaked(stepper, other, owned, mixed), other.held
            other.left -= owned
            other.mixed -= owned
            other.added -= owned

    def _leaked(self, stepper: _Other, other: _Other, owned: set[int], mixed: set[int]) -> Leaked:
        return Leaked(
            location=user_location(),
            optimizer=stepper.name,
            parameters=len(owned),
            gradients=tuple(self._registry.parameters[i].path for i in sorted(mixed)),
            rival=other.name,
            since=self._recorder.log.index,
            opposed=bool(other.mixed & owned),
        )

    def _settle(self, stepper: _Other) -> None:
        """If it now steps on the very loss that the other has stepped on, both have meant it."""
        suspect, stepper.suspect = stepper.suspect, None
        if suspect is not None and not _same(stepper.sample, suspect[1]):
            self._recorder.log.add_event(suspect[0])


def _look(sample: Sequence[Tensor]) -> Look:
    gradients = [parameter.grad for parameter in sample]
    return [(None, 0) if gradient is None else (ref(gradient), version(gradient)) for gradient in gradients]


def _same(sample: Sequence[Tensor], look: Look) -> bool:
    """Whether these are the gradients that were looked at, and nobody has written to them."""
    if len(look) != len(sample):
        return False
    for parameter, (held, seen) in zip(sample, look, strict=True):
        gradient = parameter.grad
        if gradient is not (None if held is None else held()):
            return False
        if gradient is not None and version(gradient) != seen:
            return False
    return True
