"""The phases of the training loop: where a step begins and ends, told from what the hooks see.

    FORWARD --first gradient--> BACKWARD --end--> AFTER --optimizer--> STEPPED --forward or backward--> ...

A step ends with an optimizer step; optimizers that step one after the other end the same one. Without an
optimizer, a manual update ends it. Gradients that were thrown away without a step end it as `CLEARED`.
"""

from dataclasses import replace
from enum import Enum
from traceback import walk_stack
from typing import Any, Protocol
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import Optimizer

from gradscope.hooks.clipping import Afterwards
from gradscope.hooks.evaluation import Evaluation
from gradscope.hooks.frames import user_location
from gradscope.hooks.leaks import Leaks
from gradscope.hooks.likeness import likenesses
from gradscope.hooks.parameters import Parameters
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry
from gradscope.hooks.states import BY_HAND, NOTHING, GradientStates, Indices, Usage
from gradscope.hooks.strays import Strays
from gradscope.hooks.ties import Ties
from gradscope.records import EventKind, LoopEvent, StepEnd

SCALED = GradScaler._maybe_opt_step.__code__

current_task = torch._C._current_graph_task_id


class Phase(Enum):
    """What the loop is doing."""

    START = "start"
    FORWARD = "forward"
    BACKWARD = "backward"
    AFTER = "after"
    STEPPED = "stepped"


class Listener(Protocol):
    """Who wants to know what the loop does."""

    def step_finished(self) -> None:
        """A step was closed."""

    def phase_begins(self, phase: Phase) -> None:
        """The loop does something else from now on."""

    def backward_begins(self) -> None:
        """The first gradient of a backward arrives."""

    def stepped(self, optimizer: int, parameters: Indices) -> None:
        """An optimizer has stepped parameters, by its id and their indices; 0 for an update by hand."""

    def boundary(self) -> None:
        """A step may have ended: the optimizer has stepped or, without one, the next forward has begun."""


class Loop:
    """Follows the loop and closes steps. The module and optimizer hooks tell it what happens."""

    def __init__(self, registry: Registry, recorder: Recorder, parameters: Parameters, listener: Listener) -> None:
        self._registry = registry
        self._recorder = recorder
        self._parameters = parameters
        self._listener = listener
        self.states = GradientStates(registry, recorder.readback)
        self._evaluation = Evaluation(registry, recorder)
        self._afterwards = Afterwards(registry, recorder)
        self._leaks = Leaks(registry, recorder)
        self._strays = Strays(registry)
        self._ties = Ties(registry)
        self._optimizers: set[int] = set()
        self._skips = False
        self._depth = 0
        self._pending = NOTHING
        self._optimizers_seen = False
        self._backward_seen = False
        self._stepped_inside = False
        self._stepped: dict[int, ref[Optimizer]] = {}
        self._task: int | None = None
        self.phase = Phase.START

    @property
    def task(self) -> int:
        """The backward that is running; -1 when none is."""
        return -1 if self._task is None else self._task

    @property
    def step(self) -> int:
        """The step that what runs now belongs to."""
        return self._recorder.log.index + (self.phase is Phase.STEPPED)

    def forward_begins(self) -> None:
        """A module runs while the loop was not in its forward phase."""
        self._end_broken_backward()
        if self.phase is Phase.STEPPED:
            self._finish(StepEnd.OPTIMIZER)
        elif self.phase is Phase.AFTER and not self._depth:
            self._close_without_optimizer()
        self._recorder.log.mark = len(self._recorder.log.entries)
        self._leaks.forward_begins()
        self._enter(Phase.FORWARD)
        if not self._optimizers_seen:
            self._listener.boundary()

    def backward_begins(self, task: int) -> None:
        """The first gradient of a backward arrives."""
        if self.phase is Phase.STEPPED:
            self._finish(StepEnd.OPTIMIZER)
        self._task, self._backward_seen = task, True
        self._enter(Phase.BACKWARD)
        self._registry.refresh_if_changed()
        self._recorder.ties.extend(self._ties.lost(self.step))
        self._evaluation.backward_begins()
        self._afterwards.look()
        dropped = self.states.backward_begins()
        self._leaks.backward_begins(self.states.touched)
        if dropped and not self._depth and self._recorder.log.backwards:
            self._finish(StepEnd.CLEARED, split=True)
        if self._recorder.observing:
            self._parameters.before()
        self._recorder.log.add_event(LoopEvent(EventKind.BACKWARD, user_location()))
        self._listener.backward_begins()

    def backward_ends(self) -> None:
        """The backward is over, and `.grad` is filled."""
        task, self._task = self.task, None
        self._enter(Phase.STEPPED if self._stepped_inside else Phase.AFTER)
        log = self._recorder.log
        if self.states.backward_ends(by_hand=not self._optimizers_seen) or self._stepped_inside:
            log.tasks.add(task)
        self._leaks.backward_ends(self.states.received)
        self._stepped_inside = False
        if log.observed and not self._optimizers_seen:
            self._parameters.gradients(self.states.touched())
        log.backwards += 1
        self._recorder.flush()

    def step_begins(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step; a closure of the user's may run inside it."""
        owned = self._parameters.owned(optimizer)
        if not len(owned):
            return
        self._depth += 1
        self.states.step_begins(id(optimizer))
        self._end_broken_backward()
        if not self._backward_seen:
            self._make_up_for_backward(optimizer)
        self._pending = self.states.before_step(owned) if self.phase in (Phase.AFTER, Phase.STEPPED) else NOTHING

    def has_non_finite(self, optimizer: Optimizer) -> bool:
        """Whether a step that is about to run would write NaN or Inf into the weights, as far as was measured.

        Waits for the device.
        """
        owned = self._parameters.owned(optimizer)
        overflow = _overflow(optimizer)
        if not len(owned) or self.phase is not Phase.AFTER or (overflow is not None and bool(overflow)):
            return False
        sampled = self.states.non_finite(owned)
        if sampled and not self._recorder.observing:
            self._recorder.log.add_event(LoopEvent(EventKind.CHECKED, user_location(), non_finite=True))
        return sampled or self._recorder.open_is_notable()

    def step_abandoned(self, optimizer: Optimizer) -> None:
        """A step that had begun will not run."""
        if len(self._parameters.owned(optimizer)):
            self._depth = max(0, self._depth - 1)
            self._pending = NOTHING

    def step_ends(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""
        owned = self._parameters.owned(optimizer)
        self._recorder.holdings.stepped(optimizer, self._recorder.log.index)
        self._leaks.stepped(optimizer, owned, self.states.touched)
        if not len(owned):
            return
        self._optimizers_seen = True
        self._optimizers.add(id(optimizer))
        self._stepped[id(optimizer)] = ref(optimizer)
        self._depth = max(0, self._depth - 1)
        if self._task is not None:  # an optimizer of a few parameters, stepped as soon as they have their gradients
            self.states.receive(owned)
        rate = _rate(optimizer) if self._recorder.observing else None
        self._step(owned, type(optimizer).__name__, id(optimizer), _overflow(optimizer), rate)
        if self._task is not None:
            self._stepped_inside = True
        elif not self._depth:
            self._enter(Phase.STEPPED)
            self._listener.boundary()

    def steppers(self, last: Optimizer) -> list[Optimizer]:
        """The optimizers whose turns made a step that the last of them has ended, if these are all there are.

        None of them where a loss scaler may leave steps out, which nobody would notice at rest.
        """
        stepped = [optimizer for known in self._stepped.values() if (optimizer := known()) is not None]
        if self._skips or any(_overflow(optimizer) is not None for optimizer in stepped):
            return []
        if self.phase is not Phase.STEPPED or self._task is not None or stepped[-1:] != [last]:
            return []
        turns = sum(event.kind is EventKind.STEP for event, _ in self._recorder.log.events)
        everybody = self._optimizers == self._stepped.keys() and turns == len(stepped)
        return stepped if everybody and not _scaled() else []

    def backward_was_missed(self) -> None:
        """A backward has run that nobody listened to: the step before it is over."""
        if self.phase is Phase.STEPPED:
            self._finish(StepEnd.OPTIMIZER)
            self.phase = Phase.AFTER

    def rests(self) -> None:
        """Nobody listens to backwards from here on."""
        self._afterwards.forget()

    def finish_last_step(self) -> None:
        """Close the step before the one that an optimizer has ended."""
        self._finish(StepEnd.OPTIMIZER, ahead=1)

    def begin(self) -> None:
        """The run begins."""
        self._recorder.ties.extend(self._ties.at_first())

    def take_stock(self) -> None:
        """The run is over: note which parameters nobody has trained."""
        self._recorder.orphans = tuple(self._recorder.holdings.orphans())
        self._recorder.strays = self._strays.lost()
        self._recorder.likenesses = tuple(likenesses(self._registry))
        alone = not self._registry.executed or self._recorder.holdings.abandoned()
        self._recorder.double = alone and self._recorder.holdings.double()

    def finish(self, *, failed: bool) -> None:
        """The run is over: close the step that is open, if anything happened in it."""
        self._afterwards.forget()
        if self._task is not None and not failed:
            self.backward_ends()
        if self.phase is Phase.STEPPED:
            self._finish(StepEnd.OPTIMIZER)
        elif self._recorder.log.backwards and not failed:
            self._step_by_hand() if self._updated_by_hand() else self._finish(StepEnd.OPEN)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._listener.phase_begins(phase)

    def _end_broken_backward(self) -> None:
        """A backward that raised never announced its end."""
        if self._task is not None and current_task() == -1:
            self.backward_ends()

    def _make_up_for_backward(self, optimizer: Optimizer) -> None:
        """No backward was ever seen, as of a model that is compiled as a whole: its steps are all there is."""
        if id(optimizer) in self._stepped:
            self._finish(StepEnd.OPTIMIZER)
        if self._recorder.observing:
            self._parameters.before()
        self.states.unseen_backward()

    def _close_without_optimizer(self) -> None:
        if self._updated_by_hand():
            self._step_by_hand()
        elif self.states.thrown_away():
            self._finish(StepEnd.CLEARED)

    def _updated_by_hand(self) -> bool:
        return not self._optimizers_seen and self.states.manually_updated()

    def _step_by_hand(self) -> None:
        self._pending = NOTHING
        # With gradients from autograd.grad, `.grad` stays None and nothing tells which parameters were moved.
        touched = self.states.touched()
        self._step(touched if len(touched) else np.arange(len(self._registry.parameters)), "", BY_HAND)
        self._finish(StepEnd.MANUAL)

    def _step(
        self, owned: Indices, name: str, owner: int, overflow: Tensor | None = None, rate: float | None = None
    ) -> None:
        if self._recorder.observing:
            if owner != BY_HAND:
                self._parameters.gradients(owned)
            self._parameters.after(owned)
        check = not self._recorder.observing  # else all gradients are measured
        after = self.states.after_step(owned, owner, overflow, check=check)
        quiet = self._evaluation.stepped(owned) if self._recorder.observing and owner != BY_HAND else ()
        if self._recorder.observing and owner != BY_HAND:
            self._afterwards.stepped(owned)
        event = LoopEvent(EventKind.STEP, user_location(), name, len(owned), evaluating=quiet, rate=rate)
        self._recorder.log.add_event(event, _joined(self._pending, after))
        self._pending = NOTHING
        self._listener.stepped(owner, owned)

    def _finish(self, end: StepEnd, **options: Any) -> None:
        self._skips |= end is StepEnd.CLEARED
        step = self._recorder.log.index
        self._parameters.forget()
        self._stepped.clear()
        self.states.step_closed()
        self._recorder.finish_step(end, **options)
        self._listener.step_finished()
        self._recorder.holdings.notice(self.states.touched(), step)
        self._strays.look(step)


def _joined(before: Usage, after: Usage) -> Usage:
    if before == NOTHING:
        return after
    return replace(
        after,
        cleared=before.cleared,
        perhaps_cleared=before.perhaps_cleared,
        applied=before.applied,
        incoming=before.incoming,
    )


def _overflow(optimizer: Optimizer) -> Tensor | None:
    """Not zero when a loss scaler tells a fused optimizer to move nothing; None when there is no such scaler."""
    overflow: Tensor | None = getattr(optimizer, "found_inf", None)
    return overflow


def _rate(optimizer: Optimizer) -> float | None:
    """The lowest learning rate of its groups, unless that would have to be read from a device."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    known = [float(rate) for rate in rates if isinstance(rate, float | int)]
    return min(known) if known and len(known) == len(rates) else None


def _scaled() -> bool:
    """Whether it is a loss scaler that has called the optimizer which is stepping."""
    return any(frame.f_code is SCALED for frame, _ in walk_stack(None))
