"""Rest: while no step is observed and each is like the last, the loop is followed at its optimizer's steps alone.

Then no hook runs in forward or backward. What a step leaves behind tells whether it was regular: new gradients for
the same parameters, each written to as often as before, and a few of them free of NaN and Inf. The first
step that is not ends the rest, and the next one is followed in full.
"""

from dataclasses import replace
from time import perf_counter
from weakref import ref

import torch
from torch.optim.optimizer import Optimizer

from gradscope.hooks.loop import Loop
from gradscope.hooks.meters import host
from gradscope.hooks.pattern import Pattern
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.states import NOTHING, Indices, Usage
from gradscope.records import EventKind, LoopEvent

LONGEST_SILENCE = 64
PATIENCE = 0.5
GOOD = (True, True)


class Rest:
    """The rest of one scope.

    Most steps only `passes` is asked: it looks at what the step has left behind, and that is all. Now and then, when
    a step is not as it should be, and when one is to be observed, `step` closes what has passed.
    """

    def __init__(self, loop: Loop, recorder: Recorder) -> None:
        self._loop = loop
        self._states = loop.states
        self._recorder = recorder
        self._optimizer: ref[Optimizer] | None = None
        self._owned: Indices | None = None
        self._pattern: Pattern | None = None
        self._events: list[tuple[LoopEvent, Usage]] = []
        recorder.on_passed = self._count
        self._free = 0
        self._due = 0.0
        self._look: tuple[bool, bool | None] | None = None

    @property
    def on(self) -> bool:
        """Whether the loop is at rest."""
        return self._pattern is not None

    def holds(self, optimizer: Optimizer) -> bool:
        """Whether the loop is at rest, and this is the optimizer whose steps are looked at."""
        return self._optimizer is not None and self._optimizer() is optimizer

    def begin(self, optimizer: Optimizer, owned: Indices) -> None:
        """After a step of the only optimizer: rest, if the step was regular and the next one is not observed."""
        if not self._recorder.free():
            return
        self._pattern = self._states.rest(owned)
        if self._pattern is not None:
            self._optimizer, self._owned, self._free = ref(optimizer), owned, 0
            self._events = [(_told(event, True), NOTHING) for event, _ in self._recorder.log.events]

    def passes(self) -> bool:
        """Whether the step that has just run was like the last, and nothing else is due: at hardly any price."""
        start, self._look = perf_counter(), None
        if not self._free or start > self._due or self._pattern is None or torch._C._len_torch_function_stack():
            return False
        gradients = self._pattern.gradients()
        self._look = self._pattern.fits(gradients), host.finite(gradients)
        self._free = self._free - 1 if self._look == GOOD else 0
        if self._free:
            self._recorder.pass_on()
        self._recorder.spent += perf_counter() - start
        return self._free > 0

    def step(self, owned: Indices) -> bool:
        """The optimizer has stepped what it owns, and that is to be looked at. False when the rest is over."""
        if self._pattern is None:
            return False
        gradients = self._pattern.gradients()
        fits, finite = self._look or (self._pattern.fits(gradients), host.finite(gradients))
        usage, self._look = NOTHING, None
        if finite is None:  # on a device: the answer comes later
            tickets = self._recorder.readback.measure_all(gradients)
            usage = Usage(checked=tuple(ticket for ticket in tickets if ticket >= 0))
        self._loop.finish_step()
        self._recorder.log.observed = False  # a finding may have asked for the next steps, but nobody listens yet
        self._recorder.log.events = (
            list(self._events) if finite else [(_told(e, finite), usage) for e, _ in self._events]
        )
        self._states.count_again(owned)
        self._free, self._due = min(self._recorder.free(), LONGEST_SILENCE), perf_counter() + PATIENCE
        return fits and owned is self._owned and finite is not False and self._free > 0

    def _count(self, times: int) -> None:
        if self._owned is not None:
            self._states.count_again(self._owned, times)

    def end(self) -> None:
        """Follow everything in full from here on. What the backward of a step that has begun has done, it has done."""
        if self._pattern is None or self._owned is None:
            return
        fresh = self._pattern.renewed(self._pattern.gradients())
        self._recorder.settle()
        self._states.resume(self._owned, fresh=fresh)
        if fresh:
            self._loop.backward_was_missed()
        self._pattern = self._optimizer = self._owned = self._look = None


def _told(event: LoopEvent, finite: bool | None) -> LoopEvent:
    """An event like this one, of a step whose gradients were finite or not."""
    return replace(event, non_finite=finite is False) if event.kind is EventKind.STEP else event
