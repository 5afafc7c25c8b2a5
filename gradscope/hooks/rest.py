"""Rest: while no step is observed and each is like the last, the loop is followed at its optimizer's steps alone.

Then no hook runs in forward or backward. What a step leaves behind tells whether it was regular: new gradients for
the same parameters, each written to as often as before, and a few of them free of NaN and Inf. The first
step that is not ends the rest, and the next one is followed in full.
"""

from collections.abc import Callable
from dataclasses import replace
from operator import is_
from time import perf_counter
from weakref import ref

import numpy as np
import torch
from torch.optim.optimizer import Optimizer

from gradscope.events import EventKind, LoopEvent
from gradscope.hooks.evaluation import Modes
from gradscope.hooks.loop import Loop
from gradscope.hooks.pattern import Pattern
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import NOBODY, Indices
from gradscope.hooks.usage import NOTHING, Usage

LONGEST_SILENCE = 64
PATIENCE = 0.5
GOOD = (True, True)
RECURRING = (EventKind.BACKWARD, EventKind.STEP)  # what a trace or a closer look has noted is of its own step


class Rest:
    """The rest of one scope.

    Most steps only `passes` is asked: it looks at what the step has left behind, and that is all. Now and then, when
    a step is not as it should be, and when one is to be observed, `step` closes what has passed.
    """

    def __init__(self, loop: Loop, recorder: Recorder, owned: Callable[[Optimizer], Indices], modes: Modes) -> None:
        self._loop = loop
        self._states = loop.states
        self._recorder = recorder
        self._owned = owned
        self._modes = modes
        self._optimizers: list[ref[Optimizer]] = []
        self._owners: list[Indices] = []
        self._pattern: Pattern | None = None
        self._events: list[tuple[LoopEvent, Usage]] = []
        recorder.on_passed = lambda times: self._states.count_again(self._owners, times)
        self._free = 0
        self._due = 0.0
        self._turn = 0
        self._renewed = False
        self._look: tuple[bool, bool | None] | None = None

    @property
    def on(self) -> bool:
        """Whether the loop is at rest."""
        return self._pattern is not None

    def holds(self, optimizer: Optimizer) -> bool:
        """Whether the loop is at rest, and it is this optimizer's turn."""
        return bool(self._optimizers) and self._optimizers[self._turn]() is optimizer

    def begin(self, optimizers: list[Optimizer]) -> None:
        """After a step of all optimizers there are, none of the next being observed: rest, if it was regular."""
        if not optimizers:
            return
        owners = [self._owned(optimizer) for optimizer in optimizers]
        self._pattern = self._states.rest(np.concatenate(owners))
        if self._pattern is not None:
            self._loop.rests()
            self._optimizers, self._owners = [ref(optimizer) for optimizer in optimizers], owners
            self._free = self._turn = 0
            events = (event for event, _ in self._recorder.log.events if event.kind in RECURRING)
            self._events = [(_told(event, True), NOTHING) for event in events]

    def passes(self) -> bool:
        """Whether the step that has just run was like the last, and nothing else is due: at hardly any price."""
        start, self._look = perf_counter(), None
        if not self._free or start > self._due or self._pattern is None or torch._C._len_torch_function_stack():
            return False
        self._look = self._take_turn(self._pattern)
        if self._look is None:
            return True
        self._free = self._free - 1 if self._look == GOOD else 0
        if self._free:
            self._recorder.pass_on()
        self._recorder.spent += perf_counter() - start
        return self._free > 0

    def step(self) -> bool:
        """An optimizer has stepped, and that is to be looked at. False when the rest is over."""
        if self._pattern is None:
            return False
        look = self._look or self._take_turn(self._pattern)
        if look is None:
            return True
        (fits, finite), usage, self._look = look, NOTHING, None
        if finite is None:  # on a device: the answer comes later
            tickets = self._recorder.readback.gradients(list(self._pattern.sample))
            usage = Usage(checked=tuple(ticket for ticket in tickets if ticket >= 0))
        self._close_step(list(self._events) if finite else [(_told(event, finite), usage) for event, _ in self._events])
        before, self._owners = self._owners, self._owned_now()
        self._states.count_again(self._owners)
        self._free, self._due = min(self._recorder.free(), LONGEST_SILENCE), perf_counter() + PATIENCE
        return fits and all(map(is_, before, self._owners)) and finite is not False and self._free > 0

    def end(self) -> None:
        """Follow everything in full from here on. What the backward of a step that has begun has done, it has done."""
        if self._pattern is None:
            return
        renewed = self._pattern.renewed()
        self._recorder.settle()
        self._recorder.log.events = list(self._recorder.log.events)  # the steps that have passed share it
        if self._turn:
            self._close_step(self._until_turn())
            self._states.count_again(self._owners[: self._turn])
        stepped = self._turn or len(self._owners)
        used = [] if renewed else self._owners[:stepped]
        fresh = self._owners if renewed else self._owners[stepped:]
        self._states.resume(_joined(used), _joined(fresh))
        if renewed:
            self._loop.backward_was_missed()
        self._pattern = self._look = None
        self._optimizers, self._owners, self._turn = [], [], 0

    def _take_turn(self, pattern: Pattern) -> tuple[bool, bool | None] | None:
        """Whether the step was like the last and its gradients finite; None if another optimizer has to step in it."""
        if self._turn == 0:
            self._renewed = pattern.renewed()
        self._turn = (self._turn + 1) % len(self._optimizers)
        if self._turn:
            return None
        fits, finite = pattern.look()
        if not fits:
            self._notice_modes()
        return fits and self._renewed, finite

    def _notice_modes(self) -> None:
        last = self._optimizers[-1]()
        if last is not None:
            self._modes.changed(last)

    def _owned_now(self) -> list[Indices]:
        optimizers = [known() for known in self._optimizers]
        return [NOBODY if optimizer is None else self._owned(optimizer) for optimizer in optimizers]

    def _close_step(self, events: list[tuple[LoopEvent, Usage]]) -> None:
        """Close the last step, and open the one that these events are known of."""
        self._loop.finish_last_step()
        self._recorder.log.observed = False  # a finding may have asked for the next steps, but nobody listens yet
        self._recorder.log.events = events

    def _until_turn(self) -> list[tuple[LoopEvent, Usage]]:
        """The events of a step whose next optimizer has not stepped yet."""
        steps = [i for i, (event, _) in enumerate(self._events) if event.kind is EventKind.STEP]
        return self._events[: steps[self._turn]]


def _told(event: LoopEvent, finite: bool | None) -> LoopEvent:
    """An event like this one, of a step whose gradients were finite or not."""
    return (
        replace(event, non_finite=finite is False, evaluating=(), rate=None) if event.kind is EventKind.STEP else event
    )


def _joined(owners: list[Indices]) -> Indices:
    return np.concatenate([NOBODY, *owners])
