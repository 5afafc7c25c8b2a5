"""Attaches all hooks, keeps their exceptions away from the user's loop, and leaves nothing behind."""

import warnings
from collections.abc import Callable, Container, Mapping
from threading import RLock
from time import perf_counter
from typing import Any, cast

from torch import nn
from torch.optim.optimizer import Optimizer

from gradscope.hooks import broadcast, failures
from gradscope.hooks.broadcast import EVERYBODY, NOBODY, subscribe, unsubscribe
from gradscope.hooks.cadence import Cadence
from gradscope.hooks.clipping import Afterwards
from gradscope.hooks.evaluation import Evaluation, Modes
from gradscope.hooks.holdings import Holdings
from gradscope.hooks.leaks import Leaks
from gradscope.hooks.likeness import Likenesses
from gradscope.hooks.loop import Loop, Phase
from gradscope.hooks.modes import capturing, transforming
from gradscope.hooks.modules import Modules
from gradscope.hooks.observers import Observers
from gradscope.hooks.parameters import Parameters
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry
from gradscope.hooks.rest import Rest
from gradscope.hooks.states import GradientStates
from gradscope.hooks.statistics import out_of_sight
from gradscope.hooks.strays import Strays
from gradscope.hooks.ties import Ties
from gradscope.hooks.tracer import Tracer
from gradscope.records import ROOT, Step

# What torch.compile says about any global hook; ours steps aside while torch compiles.
GLOBAL_HOOKS = r"Using `torch\.compile\(module\)` when there are global hooks on modules"


def observers(registry: Registry, recorder: Recorder, states: GradientStates) -> Observers:
    """Who follows the loop; the order is that in which they hear of it."""
    return Observers(
        Holdings(registry, recorder, states),
        Ties(registry, recorder),
        Evaluation(registry, recorder),
        Afterwards(registry, recorder),
        Leaks(registry, recorder, states),
        Strays(registry, recorder),
        Likenesses(registry, recorder),
    )


class Attachment:
    """All hooks on one model.

    `on_steps` is called when finished steps have arrived, `on_open` before an optimizer writes non-finite
    gradients into the weights, if that is not None; what they raise is a fault of ours and becomes a note.
    `deliver` is called when no hook of ours is at work; what it raises is meant for the user.
    """

    def __init__(
        self,
        roots: Mapping[str, nn.Module],
        cadence: Cadence,
        keep: tuple[str, ...],
        on_steps: Callable[[list[Step]], None],
        deliver: Callable[[], None],
        on_open: Callable[[], None] | None = None,
    ) -> None:
        self.ignored: Container[int] = NOBODY
        self._registry = Registry(roots)
        self.recorder = Recorder(self._registry, cadence, keep)
        self.short_way = self.recorder.tap.forward
        self._parameters = Parameters(self._registry, self.recorder)
        states = GradientStates(self._registry, self.recorder.readback)
        watchers = observers(self._registry, self.recorder, states)
        self._loop = Loop(self._registry, self.recorder, self._parameters, states, watchers, self)
        self._modules = Modules(self._registry, self.recorder, self._loop, self._parameters, self._guarded)
        self._on_steps = on_steps
        self._on_open = on_open
        self._deliver = deliver
        self._filter: object = None
        self._closed = False
        self._lock = RLock()  # other threads train other models, and global hooks see all of them
        self._broken: set[int] = set()
        self._modes = Modes(self._registry, self.recorder)
        self._rest = Rest(self._loop, self.recorder, self._parameters.owned, self._modes)
        self._rest_step = self._guarded(self._step_at_rest)
        self._tracer = Tracer(self._registry, self.recorder, self._loop, self._guarded)

    def attach(self) -> None:
        """Begin to listen."""
        # With a comment that makes it a filter of this scope alone: of equal ones, warnings keeps only one.
        warnings.filterwarnings("ignore", f"{GLOBAL_HOOKS}(?#{id(self)})")
        self._filter = warnings.filters[0]
        subscribe(self)
        self._guarded(self._loop.begin)()
        self._tracer.request()

    def detach(self, error: BaseException | None = None) -> None:
        """Stop listening, close the open step and read what is still on its way."""
        self._guarded(self._wake)()
        self._fall_silent()
        self._guarded(self._end)(error)
        self._closed = True
        self._open_tap()

    def abandon(self) -> None:
        """Stop listening, whatever is open or still on its way."""
        self._fall_silent()
        self._closed = True
        self._open_tap()

    def _fall_silent(self) -> None:
        unsubscribe(self)
        if self._filter in warnings.filters:
            cast(list[Any], warnings.filters).remove(self._filter)

    def forget(self) -> None:
        """Let go of the model, after `detach`."""
        self._registry.forget()

    def trace_next(self) -> None:
        """Trace the operations of the next whole step."""
        self._tracer.trace_next()
        self._wake()
        self.ignored = NOBODY

    def request_trace(self) -> None:
        """Trace the next whole step, unless that has been done often enough."""
        self._tracer.request()
        self._wake()
        self.ignored = NOBODY

    def _end(self, error: BaseException | None) -> None:
        failed = self._tracer.close()
        if error is not None:
            last = self._modules.last_module()
            self.recorder.failure = failures.describe(error, self._registry, self._loop.step, last, failed)
        for path in self._registry.compiled():
            self.recorder.lose(f"inside {path or 'the model'}: compiled code, of which at most the result is seen")
        self._loop.finish(failed=error is not None)
        self.recorder.collect(wait=True)
        self._loop.take_stock()

    def after_forward(self, module: nn.Module, output: Any) -> None:
        """A module has returned, of the watched model or of any other, and could not take the short way."""
        if self._tracer.active:
            self._guarded(self._tracer.after_forward)(module)
        row = self._row(module)
        if row is None or row in self._broken:
            return
        start = perf_counter()
        try:
            with self._lock, out_of_sight():
                self._modules.forward(module, row, output)
        except Exception as error:  # noqa: BLE001  no exception of ours reaches the user's loop
            self._broken.add(row)
            self._registry.places.pop(id(module), None)
            self.recorder.lose(f"{self._registry.executed[row].path or ROOT}: {error!r}")
        self.recorder.spent += perf_counter() - start
        self._deliver()

    def _row(self, module: nn.Module) -> int | None:
        if transforming() or capturing():
            return None
        row = self._registry.known_row(module)
        if row is not None:
            return row
        with self._lock:
            return self._registry.row(module)

    def before_step(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step, of the watched model or of any other."""
        if self._rest.holds(optimizer) or capturing():
            return
        self._guarded(self._step_begins)(optimizer)
        if self._on_open is not None:
            self._guarded(self._look_before)(optimizer, self._on_open)
            try:
                self._deliver()
            except BaseException:
                self._loop.step_abandoned(optimizer)
                raise

    def _step_begins(self, optimizer: Optimizer) -> None:
        if self._rest.on and len(self._parameters.owned(optimizer)):
            self._wake()
        self._loop.step_begins(optimizer)
        self._tracer.step_begins()

    def _step_ends(self, optimizer: Optimizer) -> None:
        self._loop.step_ends(optimizer)
        self._tracer.step_over()
        self._modes.changed(optimizer)
        self._try_to_rest(optimizer)

    def _try_to_rest(self, optimizer: Optimizer) -> None:
        if self._tracer.active or self._on_open is not None or not self.recorder.free():
            return
        self._rest.begin(self._loop.steppers(optimizer))
        if self._rest.on:
            self.ignored = EVERYBODY
            broadcast.follow_wishes()

    def _passes(self) -> bool:
        try:
            return self._rest.passes()
        except Exception as error:  # noqa: BLE001  no exception of ours reaches the user's loop
            self.recorder.lose(f"at rest: {error!r}")
            return False

    def _step_at_rest(self) -> None:
        """The step of a regular loop was regular again, or the rest is over."""
        if not self._rest.step():
            self._wake()

    def _wake(self) -> None:
        if self._rest.on:
            self._rest.end()
            self.ignored = NOBODY
            broadcast.follow_wishes()

    def _look_before(self, optimizer: Optimizer, on_open: Callable[[], None]) -> None:
        if self._loop.has_non_finite(optimizer):
            self._tracer.stop()
            self.recorder.collect()
            on_open()

    def after_step(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""
        if capturing():
            return
        if self._rest.holds(optimizer):
            if self._passes():
                return
            self._rest_step()
        else:
            self._guarded(self._step_ends)(optimizer)
        self._deliver()

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        """The function, timed, and with its exceptions turned into a note."""

        def guarded(*args: Any) -> None:
            if self._closed:
                return
            start = perf_counter()
            try:
                with self._lock, out_of_sight():
                    function(*args)
            except Exception as error:  # noqa: BLE001  no exception of ours reaches the user's loop
                self.recorder.lose(f"{getattr(function, '__name__', 'a hook')}: {error!r}")
            self.recorder.spent += perf_counter() - start

        return guarded

    def step_finished(self) -> None:
        """A step was closed."""
        self._modules.forget()
        arrived = self.recorder.collect()
        if arrived:
            self._on_steps(arrived)

    def backward_begins(self) -> None:
        """The first gradient of a backward arrives."""
        self._tracer.backward_begins()

    def stepped(self, optimizer: int, parameters: Indices) -> None:
        """An optimizer has stepped parameters."""
        self._tracer.step_ends(optimizer, parameters)

    def phase_begins(self, phase: Phase) -> None:
        """The loop does something else from now on: in the forward of a step that is not observed, little matters."""
        self._wake()
        quiet = phase is Phase.FORWARD and not self.recorder.observing and not self._tracer.active
        self.ignored = self._modules.inner() if quiet else NOBODY
        self._open_tap()

    def boundary(self) -> None:
        """The place to stop a trace."""
        self._tracer.boundary()
        self._open_tap()

    def _open_tap(self) -> None:
        """Let outputs and gradients take the short way while there is nothing to do but to measure them."""
        tap, measures_only = self.recorder.tap, not (self._closed or self.recorder.keep)
        tap.task = self._loop.task if measures_only else -1
        forward = self._loop.phase is Phase.FORWARD and self.recorder.observing and not self._tracer.active
        tap.listening = forward and measures_only
