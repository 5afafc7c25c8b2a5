"""Rest: while no step is observed and each is like the last, the loop is followed at its optimizer's steps alone.

Then no hook runs in forward or backward. What a step leaves behind tells whether it was regular: new gradients for
the same parameters, each written to as often as before, and a few of them free of NaN and Inf. The first
step that is not ends the rest, and the next one is followed in full.
"""

from dataclasses import replace
from weakref import ref

from torch.optim.optimizer import Optimizer

from gradscope.hooks.loop import Loop
from gradscope.hooks.meters import host
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.states import NOTHING, Indices, Pattern, Usage
from gradscope.records import EventKind, LoopEvent

LONGEST_SILENCE = 64


class Rest:
    """The rest of one scope."""

    def __init__(self, loop: Loop, recorder: Recorder) -> None:
        self._loop = loop
        self._states = loop.states
        self._recorder = recorder
        self._optimizer: ref[Optimizer] | None = None
        self._owned: Indices | None = None
        self._pattern: Pattern | None = None
        self._events: list[tuple[LoopEvent, Usage]] = []
        self._passed = 0

    @property
    def on(self) -> bool:
        """Whether the loop is at rest."""
        return self._pattern is not None

    def holds(self, optimizer: Optimizer) -> bool:
        """Whether the loop is at rest, and this is the optimizer whose steps are looked at."""
        return self._optimizer is not None and self._optimizer() is optimizer

    def begin(self, optimizer: Optimizer, owned: Indices) -> None:
        """After a step of the only optimizer: rest, if the step was regular and the next one is not observed."""
        if self._recorder.observes_next():
            return
        self._pattern = self._states.rest(owned)
        if self._pattern is not None:
            self._optimizer, self._owned, self._passed = ref(optimizer), owned, 0
            self._events = [(_told(event, True), NOTHING) for event, _ in self._recorder.log.events]

    def step(self, owned: Indices) -> bool:
        """The optimizer has stepped what it owns. False when the rest is over."""
        if self._pattern is None:
            return False
        gradients = self._pattern.gradients()
        fits, finite, usage = self._pattern.fits(gradients), host.finite(gradients), NOTHING
        if finite is None:  # on a device: the answer comes later
            tickets = self._recorder.readback.measure_all(gradients)
            usage = Usage(checked=tuple(ticket for ticket in tickets if ticket >= 0))
        self._open(usage)
        self._recorder.log.events = (
            list(self._events) if finite else [(_told(event, finite), usage) for event, _ in self._events]
        )
        self._states.registry.count_steps(owned)
        self._states.count_again()
        return fits and owned is self._owned and finite is not False and not self._recorder.observes_next()

    def end(self) -> None:
        """Follow everything in full from here on. What the backward of a step that has begun has done, it has done."""
        if self._pattern is None or self._owned is None:
            return
        fresh = self._pattern.renewed(self._pattern.gradients())
        self._states.resume(self._owned, fresh=fresh)
        if fresh:
            self._loop.backward_was_missed()
        self._pattern = self._optimizer = self._owned = None

    def _open(self, usage: Usage) -> None:
        """Close the last step and open the next; now and then, and for the first, with all that belongs to it."""
        self._passed += 1
        if self._passed % LONGEST_SILENCE == 1 or usage.checked or not self._recorder.pass_on():
            self._loop.finish_step()
            self._recorder.log.observed = False  # a finding may have asked for the next steps, but nobody listens yet


def _told(event: LoopEvent, finite: bool | None) -> LoopEvent:
    """An event like this one, of a step whose gradients were finite or not."""
    return replace(event, non_finite=finite is False) if event.kind is EventKind.STEP else event
