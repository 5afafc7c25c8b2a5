"""What has become of each gradient: a state machine over the parameters, without a hook on any of them.

    CLEAN --backward--> FRESH --step--> CONSUMED --backward, not cleared--> DIRTY --step--> a reused gradient

Clearing is inferred: the gradient is None, another object, or all zero. Only the last needs values; a few
small gradients of each optimizer are looked at, and the answer is read when it arrives at the host.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor

from gradscope.hooks import statistics
from gradscope.hooks.registry import Registry
from gradscope.hooks.transfer import Readback, Ticket

SAMPLE = 4
SMALL = 65_536

Mark = tuple[int, int] | None


class State(IntEnum):
    """Of one parameter's gradient."""

    CLEAN = 0
    FRESH = 1
    CONSUMED = 2
    DIRTY = 3


@dataclass(frozen=True)
class Usage:
    """How one step used gradients, with the measurements that will confirm or refute it.

    `reused` holds when a norm in `left` is not zero. `cleared` is certain; `perhaps_cleared` holds when the
    norms in `applied` are all zero while those in `incoming` are not. `checked` tells non-finite gradients;
    `skipped` is not zero when a loss scaler told a fused optimizer to move nothing.
    """

    reused: tuple[str, ...] = ()
    left: tuple[Ticket, ...] = ()
    cleared: tuple[str, ...] = ()
    perhaps_cleared: tuple[str, ...] = ()
    applied: tuple[Ticket, ...] = ()
    incoming: tuple[Ticket, ...] = ()
    checked: tuple[Ticket, ...] = ()
    skipped: tuple[Ticket, ...] = ()


@dataclass
class GradientStates:
    """The state of every parameter's gradient, by the parameter's index in the registry."""

    registry: Registry
    readback: Readback
    _generation: int = 0
    _ids: list[int] = field(default_factory=list)
    _state: list[State] = field(default_factory=list)
    _marks: list[Mark] = field(default_factory=list)
    _owner: dict[int, int] = field(default_factory=dict)
    _suspects: set[int] = field(default_factory=set)
    _examined: set[int] = field(default_factory=set)
    _left: dict[int, Ticket] = field(default_factory=dict)
    _incoming: dict[int, Ticket] = field(default_factory=dict)
    _versions: dict[int, int] = field(default_factory=dict)
    _values: dict[int, Tensor] = field(default_factory=dict)

    def backward_begins(self) -> bool:
        """Take notice of what was cleared. True when an earlier backward's gradients were all thrown away."""
        self._follow_registry()
        dropped = kept = 0
        self._suspects.clear()
        moved: set[int] = set()
        for i, mark in enumerate(self._current_marks()):
            state, before = self._state[i], self._marks[i]
            if state is State.FRESH:
                unchanged = mark == before
                kept, dropped = kept + unchanged, dropped + (not unchanged)
                self._state[i] = State.FRESH if unchanged else State.CLEAN
            elif state is not State.CLEAN and mark is not None and before is not None and mark[0] == before[0]:
                self._suspects.add(i)
                if mark != before:
                    moved.add(i)
            else:
                self._state[i] = State.CLEAN
            self._marks[i] = mark
        # What was left is what stood there before this step's first backward, not what that one has added.
        known = (self._examined - moved) & self._suspects
        self._left = {i: ticket for i, ticket in self._left.items() if i in known}
        self._left |= self._norms(self._sample(self._suspects - known))
        self._examined = set(self._suspects)
        return dropped > 0 and kept == 0

    def backward_ends(self, *, by_hand: bool = False) -> int:
        """Take notice of who received a gradient. Returns how many did.

        `by_hand`, while no optimizer was ever seen: remember a few values, to notice an update through `.data`.
        """
        received = self.receive(range(len(self._state)))
        sample = self._sample(received or range(len(self._state)))
        self._incoming = self._norms(sample)
        self._versions = {i: self._parameter(i)._version for i in sample}
        # Comparing values waits for a device; on the host it does not.
        hosted = [i for i in sample if by_hand and self._parameter(i).device.type == "cpu"]
        self._values = {i: self._parameter(i).detach().clone() for i in hosted}
        return len(received)

    def receive(self, indices: Iterable[int]) -> list[int]:
        """Take notice of which of these parameters have received a gradient."""
        received = []
        for i in indices:
            mark = self._mark(i)
            if mark is not None and mark != self._marks[i]:
                received.append(i)
                self._state[i] = State.DIRTY if i in self._suspects else State.FRESH
            self._marks[i] = mark
        self.registry.contributions.update(self.registry.parameters[i].path for i in received)
        return received

    def unseen_backward(self) -> None:
        """A step comes without a backward that was seen, as of a model that is compiled as a whole.

        Whose gradient has changed since the last step has received one; whether it was cleared in between
        cannot be told, so it counts as fresh.
        """
        self._follow_registry()
        self._suspects.clear()
        self.step_closed()
        self.backward_ends()

    def before_step(self, owned: Sequence[int]) -> Usage:
        """How a step that is about to run will use the gradients of the parameters it owns."""
        ready = [i for i in owned if self._state[i] in (State.FRESH, State.DIRTY)]
        gone = [i for i in ready if self._parameter(i).grad is None]
        changed = [i for i in ready if self._mark(i) not in (None, self._marks[i])]
        sample = [i for i in changed if i in self._incoming]
        return Usage(
            cleared=self._paths(gone),
            perhaps_cleared=self._paths(changed) if sample else (),
            applied=tuple(self._norms(sample).values()),
            incoming=tuple(self._incoming[i] for i in sample),
        )

    def after_step(self, owned: Sequence[int], owner: int, overflow: Tensor | None) -> Usage:
        """How a step that has just run used the gradients of the parameters it owns.

        `overflow` is not zero when a loss scaler has told the (fused) optimizer to move nothing.
        """
        dirty = [i for i in owned if self._state[i] is State.DIRTY]
        checked = self._measured(self._sample(owned), self.readback.measure).values()
        usage = Usage(
            reused=self._paths(dirty),
            left=tuple(ticket for i, ticket in self._left.items() if i in dirty),
            checked=tuple(checked),
            skipped=() if overflow is None else (self.readback.norm(overflow),),
        )
        self._consume(owned, owner)
        return usage

    def non_finite(self, owned: Sequence[int]) -> bool:
        """Whether one of a few small gradients holds NaN or Inf. Waits for the device."""
        gradients = (self._parameter(i).grad for i in self._sample(owned))
        plain = (g for g in gradients if g is not None and statistics.obstacle(g) is None)
        return any(not torch.isfinite(gradient).all() for gradient in plain)

    def manually_updated(self) -> bool:
        """Whether parameters were changed since the last backward ended."""
        if self._generation != self.registry.generation:
            return False
        moved = any(self._parameter(i)._version != version for i, version in self._versions.items())
        return moved or not all(torch.equal(self._parameter(i), value) for i, value in self._values.items())

    def thrown_away(self) -> bool:
        """Whether the gradients of the last backward are gone, although no step used them."""
        fresh = [i for i, state in enumerate(self._state) if state is State.FRESH]
        return bool(fresh) and all(self._mark(i) != self._marks[i] for i in fresh)

    def step_closed(self) -> None:
        """What a later backward finds is new evidence."""
        self._left = {}
        self._examined.clear()

    def touched(self) -> list[int]:
        """The parameters whose gradients no step has used yet."""
        return [i for i, state in enumerate(self._state) if state in (State.FRESH, State.DIRTY)]

    def _consume(self, owned: Iterable[int], owner: int) -> None:
        for i in owned:
            self._marks[i] = self._mark(i)
            self._state[i] = State.CLEAN if self._marks[i] is None else State.CONSUMED
            self._owner[i] = owner
            self.registry.optimizer_steps[self.registry.parameters[i].path] += 1

    def _follow_registry(self) -> None:
        if self._generation == self.registry.generation:
            return
        self._generation = self.registry.generation
        known = dict(zip(self._ids, zip(self._state, self._marks, strict=True), strict=True))
        self._ids = [id(item.parameter) for item in self.registry.parameters]
        self._state = [known.get(key, (State.CLEAN, None))[0] for key in self._ids]
        self._marks = [known.get(key, (State.CLEAN, None))[1] for key in self._ids]
        for table in (self._owner, self._left, self._incoming, self._versions, self._values):
            table.clear()
        self._examined.clear()

    def _parameter(self, i: int) -> Tensor:
        return self.registry.parameters[i].parameter

    def _mark(self, i: int) -> Mark:
        gradient = self._parameter(i).grad
        return None if gradient is None else (id(gradient), gradient._version)

    def _current_marks(self) -> list[Mark]:
        return [self._mark(i) for i in range(len(self.registry.parameters))]

    def _paths(self, indices: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.registry.parameters[i].path for i in indices)

    def _sample(self, indices: Collection[int]) -> list[int]:
        """A few small ones for each optimizer, spread over the model."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i in sorted(indices):
            groups[self._owner.get(i, 0)].append(i)
        chosen = []
        for group in groups.values():
            small = [i for i in group if self._parameter(i).numel() <= SMALL] or group[:1]
            chosen += small[:: max(1, len(small) // SAMPLE)][:SAMPLE]
        return chosen

    def _norms(self, indices: Iterable[int]) -> dict[int, Ticket]:
        return self._measured(indices, self.readback.norm)

    def _measured(self, indices: Iterable[int], measure: Callable[[Tensor], Ticket]) -> dict[int, Ticket]:
        gradients = {i: self._parameter(i).grad for i in indices}
        return {
            i: measure(gradient.detach())
            for i, gradient in gradients.items()
            if gradient is not None and statistics.obstacle(gradient) is None
        }
