"""What has become of each gradient: a state machine over the parameters, without a hook on any of them.

    CLEAN --backward--> FRESH --step--> CONSUMED --backward, not cleared--> DIRTY --step--> a reused gradient

Clearing is inferred: the gradient is None, another object, or all zero. Only the last needs values; a few
small gradients of each optimizer are looked at. On the host that is answered at once, on a device when it arrives.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.hooks.column import Column
from gradscope.hooks.marks import Marks
from gradscope.hooks.pattern import Pattern, pattern
from gradscope.hooks.registry import NOBODY, Indices, Registry
from gradscope.hooks.samples import Samples
from gradscope.hooks.transfer import Readback, Ticket
from gradscope.hooks.usage import NOTHING, Usage
from gradscope.hooks.uses import Uses

BY_HAND = 0

Flags: TypeAlias = NDArray[np.bool_]

# Of one parameter's gradient, as plain numbers: numpy takes ten times as long with members of an enum. The lowest bit
# says that no step has used it.
CLEAN, FRESH, CONSUMED, DIRTY = range(4)
UNUSED = FRESH & DIRTY


@dataclass
class GradientStates:
    """The state of every parameter's gradient, in arrays by the parameter's index in the registry."""

    registry: Registry
    readback: Readback
    _generation: int = 0
    _ids: list[int] = field(default_factory=list)
    _tensors: list[Tensor] = field(default_factory=list)
    _state: Column = field(default_factory=lambda: Column(np.empty(0, np.int8)))
    _marks: Marks = field(default_factory=lambda: Marks.of([]))
    _suspects: Indices = field(default_factory=lambda: NOBODY)
    _examined: set[int] = field(default_factory=set)
    _left: dict[int, Ticket] = field(default_factory=dict)
    _incoming: dict[int, Ticket] = field(default_factory=dict)
    _versions: list[tuple[Tensor, int]] = field(default_factory=list)
    _values: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    received: Indices = field(default_factory=lambda: NOBODY)
    _dirty: bool = False
    _zeroed: Flags = field(default_factory=lambda: np.empty(0, np.bool_))
    _closed: Marks = field(default_factory=lambda: Marks.of([]))
    _rewritten: bool = False
    _uses: Uses = field(default_factory=Uses)
    regular: bool = False

    def __post_init__(self) -> None:
        self._samples = Samples(self.readback)

    def backward_begins(self) -> bool:
        """Take notice of what was cleared. True when an earlier backward's gradients were all thrown away."""
        self._follow_registry()
        before, now = self._marks, Marks.of(self._tensors)
        self._marks = now
        if FRESH not in self._state and now.nothing:
            self._start_clean()
            return False
        fresh = self._state.array == FRESH
        unchanged = now.same_as(before)
        held = (self._state.array >= CONSUMED) & now.same_object_as(before)
        zeroed = self._zero_among(held & ~unchanged)
        self._zeroed |= zeroed
        if not fresh.any() and not (now.present & ~self._zeroed).any():
            self._start_clean()
            return False
        held &= ~zeroed
        self._state.array[~held & ~(fresh & unchanged)] = CLEAN
        self._suspects = np.flatnonzero(held)
        self.regular &= bool((fresh & unchanged).any() and not held.any())
        self._examine(set(np.flatnonzero(held & ~unchanged).tolist()))
        return bool((fresh & ~unchanged).any() and not (fresh & unchanged).any())

    def backward_ends(self, *, by_hand: bool = False) -> int:
        """Take notice of who received a gradient. Returns how many did.

        `by_hand`, while no optimizer was ever seen: remember a few values, to notice an update through `.data`.
        """
        received = self.receive(None)
        sample = self._samples.of(received if len(received) else np.arange(len(self._state)))
        self._incoming = self._samples.measured(sample)
        self._versions = [(self._tensors[i], self._tensors[i]._version) for i in sample] if by_hand else []
        # Comparing values waits for a device; on the host it does not.
        hosted = [tensor for tensor, _ in self._versions if tensor.device.type == "cpu"]
        self._values = [(tensor, tensor.detach().clone()) for tensor in hosted]
        return len(received)

    def receive(self, indices: Indices | None) -> Indices:
        """Take notice of which of these parameters (None: of all) have received a gradient."""
        self._follow_registry()
        before, now = self._marks, Marks.of(self._tensors)
        if before.nothing and indices is None:
            received = now.holders
        else:
            received = np.flatnonzero(~now.same_as(before) & now.present)
            if indices is not None:
                received, now = np.intersect1d(received, indices), before.updated(now, indices)
        self._marks = now
        self._state.put(received, FRESH)
        if len(self._suspects):
            self._state.put(np.intersect1d(self._suspects, received), DIRTY)
            self._dirty = True
        self.registry.count_contributions(received)
        self.received = received
        return received

    def count_again(self, owners: Iterable[Indices], times: int = 1) -> None:
        """Backwards have given the same parameters a gradient as the last one that was seen, and steps have used it."""
        self.registry.count_contributions(self.received, times)
        for owned in owners:
            self.registry.count_steps(owned, times)

    def unseen_backward(self) -> None:
        """A step comes without a backward that was seen, as of a model that is compiled as a whole.

        Whose gradient has changed since the last step has received one; whether it was cleared in between
        cannot be told, so it counts as fresh.
        """
        self._follow_registry()
        self._suspects = NOBODY
        self.step_closed()
        self.backward_ends()

    def step_begins(self, owner: int) -> None:
        """An optimizer begins its step, in which it may call other optimizers."""
        self._uses.begins(owner)

    def before_step(self, owned: Indices) -> Usage:
        """How a step that is about to run will use the gradients of the parameters it owns."""
        self._follow_registry()
        now = Marks.of(self._tensors)
        if now == self._marks:
            return NOTHING
        ready = owned[(self._state.array[owned] & UNUSED) != 0]
        present = now.present[ready]
        changed = ready[present & ~now.same_as(self._marks)[ready]]
        sample = [i for i in changed.tolist() if i in self._incoming]
        if sample and present.all() and len(self._samples.without_zeros(sample)) == len(sample):  # clipped, or unscaled
            self._rewritten = True
            return NOTHING
        self.regular = False
        return Usage(
            cleared=self._paths(ready[~present]),
            perhaps_cleared=self._paths(changed) if sample else (),
            applied=tuple(self._samples.measured(sample).values()),
            incoming=tuple(self._incoming[i] for i in sample),
        )

    def after_step(self, owned: Indices, owner: int, overflow: Tensor | None, *, check: bool = True) -> Usage:
        """How a step that has just run used the gradients of the parameters it owns.

        `overflow` is not zero when a loss scaler has told the (fused) optimizer to move nothing. With `check`, a few
        gradients are looked at for NaN and Inf.
        """
        self._follow_registry()
        dirty = owned[self._state.array[owned] == DIRTY] if self._dirty else NOBODY
        checked = tuple(self._samples.measured(self._samples.of(owned)).values()) if check else ()
        dirtied = set(dirty.tolist())
        repeated, shared = self._used_again(owned, owner)
        self._consume(owned, owner)
        if not (dirtied or checked or len(repeated) or len(shared)) and overflow is None:
            return NOTHING
        return Usage(
            repeated=self._paths(repeated),
            shared=self._paths(shared),
            reused=self._paths(dirty),
            left=tuple(ticket for i, ticket in self._left.items() if i in dirtied),
            checked=checked,
            skipped=() if overflow is None else (self.readback.measure(overflow),),
        )

    def rest(self, owned: Indices) -> Pattern | None:
        """What the coming steps will look like if they are like this one; None if this one was not regular."""
        sample = self._samples.of(owned)
        if not self.regular or len(self.touched()) or not sample or any(self._tensors[i].grad is None for i in sample):
            return None
        rewritten = self._rewritten or bool(self._zeroed.any())
        if rewritten:
            sample = self._samples.without_zeros(sample)
        if not sample:
            return None
        advance = np.where(self._zeroed, self._marks.versions - self._closed.versions, 0)
        chosen = [self._tensors[i] for i in (sample[0], sample[-1])]
        modules = list(self.registry.roots.values())
        return pattern(self._tensors, chosen, modules, advance, rewritten=rewritten)

    def resume(self, used: Indices, fresh: Indices) -> None:
        """Steps went by that were like the last one: take up the thread, with gradients that were used or not yet."""
        self._suspects, self._dirty, self.regular = NOBODY, False, False
        self._marks = Marks.of(self._tensors)
        self.step_closed()
        self._state.array.fill(CLEAN)
        self._state.array[used] = self._marks.present[used] * CONSUMED
        self._state.array[fresh] = self._marks.present[fresh] * FRESH

    def non_finite(self, owned: Indices) -> bool:
        """Whether one of a few small gradients holds NaN or Inf. Waits for the device."""
        return self._samples.non_finite(self._samples.of(owned))

    def manually_updated(self) -> bool:
        """Whether parameters were changed since the last backward ended, as far as that was looked for."""
        if self._generation != self.registry.generation:
            return False
        moved = any(tensor._version != version for tensor, version in self._versions)
        return moved or not all(torch.equal(tensor, value) for tensor, value in self._values)

    def thrown_away(self) -> bool:
        """Whether the gradients of the last backward are gone, although no step used them."""
        fresh = self._state.array == FRESH
        return bool(fresh.any()) and not (fresh & Marks.of(self._tensors).same_as(self._marks)).any()

    def step_closed(self) -> None:
        """What a later backward finds is new evidence."""
        self._left = {}
        self._examined.clear()
        self._closed, self._rewritten = self._marks, False
        self._zeroed = np.zeros(len(self._tensors), np.bool_)

    def touched(self) -> Indices:
        """The parameters whose gradients no step has used yet."""
        if FRESH not in self._state and DIRTY not in self._state:
            return NOBODY
        return (self._state.array & UNUSED).nonzero()[0]

    def _start_clean(self) -> None:
        """Every gradient is known to be cleared, and none of an earlier backward is waiting for its step."""
        self._state.array.fill(CLEAN)
        self._suspects, self._left, self._dirty = NOBODY, {}, False
        self._examined.clear()
        self.regular = True

    def _zero_among(self, among: Flags) -> Flags:
        """All of these if those looked at are zero, as far as the host can tell at once; else none."""
        zero = among.any() and self._samples.all_zero(self._samples.of(np.flatnonzero(among)))
        return among if zero else np.zeros_like(among)

    def _examine(self, moved: set[int]) -> None:
        """What was left is what stood there before this step's first backward, not what that one has added."""
        suspects = set(self._suspects.tolist())
        known = (self._examined - moved) & suspects
        self._left = {i: ticket for i, ticket in self._left.items() if i in known}
        self._left |= self._samples.measured(self._samples.of(np.array(sorted(suspects - known), np.intp)))
        self._examined = suspects

    def _used_again(self, owned: Indices, owner: int) -> tuple[Indices, Indices]:
        """Whose gradients the optimizer's last step used already, and whose another optimizer's did."""
        if owner == BY_HAND or CONSUMED not in self._state:
            return NOBODY, NOBODY
        state = self._state.array[owned]
        if not (state == CONSUMED).any():
            return NOBODY, NOBODY
        again = owned[state == CONSUMED]
        again = again[Marks.of(self._tensors).same_as(self._marks)[again]]
        repeated = NOBODY if (state & UNUSED).any() else self._uses.by_itself(again, owner, self._tensors)
        return repeated, self._uses.by_others(again, owner)

    def _consume(self, owned: Indices, owner: int) -> None:
        now = Marks.of(self._tensors)
        everybody = len(now.holders) == len(self._tensors)
        held = owned if everybody else owned[now.present[owned]]
        sample = next(iter(self._samples.of(held)), None) if len(held) else None
        gradient = None if sample is None else self._tensors[sample].grad
        self._uses.note(held, owner, None if sample is None or gradient is None else (sample, gradient))
        self._marks = now if len(owned) == len(self._tensors) else self._marks.updated(now, owned)
        self._state.put(owned, CLEAN)
        self._state.put(held, CONSUMED)
        self._samples.belong(owned, owner)
        self.registry.count_steps(owned)

    def _follow_registry(self) -> None:
        if self._generation == self.registry.generation:
            return
        self._generation = self.registry.generation
        tensors = [item.parameter for item in self.registry.parameters]
        known = {key: i for i, key in enumerate(self._ids)}
        origin = np.array([known.get(id(tensor), -1) for tensor in tensors], np.intp)
        self._ids, self._tensors = [id(tensor) for tensor in tensors], tensors
        self._state = Column(np.append(self._state.array, np.int8(CLEAN))[origin])
        self._marks = self._marks.taken(origin)
        self._samples.follow(tensors)
        self._suspects = NOBODY
        self._zeroed = np.zeros(len(tensors), np.bool_)
        self._uses.forget(len(tensors))
        self._closed, self.regular = self._marks, False
        for table in (self._left, self._incoming, self._examined):
            table.clear()
        self._versions, self._values = [], []

    def _paths(self, indices: Indices) -> tuple[str, ...]:
        return tuple(self.registry.parameters[i].path for i in indices.tolist())
