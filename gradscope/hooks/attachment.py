"""Attaches all hooks, keeps their exceptions away from the user's loop, and leaves nothing behind."""

import warnings
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradscope.hooks import failures
from gradscope.hooks.cadence import Cadence
from gradscope.hooks.loop import Loop
from gradscope.hooks.modules import Modules
from gradscope.hooks.operations import Trace
from gradscope.hooks.parameters import Parameters
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry
from gradscope.records import Step

# What torch.compile says about any global hook; ours steps aside while torch compiles.
GLOBAL_HOOKS = r"Using `torch\.compile\(module\)` when there are global hooks on modules"


class Attachment:
    """All hooks on one model.

    `on_steps` is called when finished steps have arrived; what it raises is a fault of ours and becomes a
    note. `deliver` is called when no hook of ours is at work; what it raises is meant for the user.
    """

    def __init__(
        self,
        roots: Mapping[str, nn.Module],
        cadence: Cadence,
        keep: tuple[str, ...],
        on_steps: Callable[[list[Step]], None],
        deliver: Callable[[], None],
    ) -> None:
        self._registry = Registry(roots)
        self.recorder = Recorder(self._registry, cadence, keep)
        self._parameters = Parameters(self._registry, self.recorder)
        self._loop = Loop(self._registry, self.recorder, self._parameters, self)
        self._modules = Modules(self._registry, self.recorder, self._loop, self._parameters, self._guarded)
        self._on_steps = on_steps
        self._deliver = deliver
        self._handles: list[Any] = []
        self._silence: object = None
        self._broken: set[int] = set()
        self._trace: Trace | None = None
        self._trace_wanted = False

    def attach(self) -> None:
        """Register the three global hooks."""
        warnings.filterwarnings("ignore", GLOBAL_HOOKS)
        self._silence = warnings.filters[0]
        self._handles = [
            register_module_forward_hook(self._after_forward),
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def detach(self, error: BaseException | None = None) -> None:
        """Remove every hook, close the open step and read what is still on its way."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._silence in warnings.filters:
            cast(list[Any], warnings.filters).remove(self._silence)
        self._guarded(self._end)(error)

    def trace_next(self) -> None:
        """Trace the operations of the next whole step."""
        self._trace_wanted = True

    def _end(self, error: BaseException | None) -> None:
        if self._trace is not None:
            self._stop_trace()
        if error is not None:
            self.recorder.failure = failures.describe(
                error, self._registry, self.recorder.log.index, self._modules.last_module()
            )
        for path in self._registry.compiled():
            self.recorder.lose(f"inside {path or 'the model'}: compiled code, of which at most the result is seen")
        self._loop.finish(failed=error is not None)
        self.recorder.collect(wait=True)

    def _after_forward(self, module: nn.Module, _args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        row = self._row(module)
        if row is None or row in self._broken:
            return
        start = perf_counter()
        try:
            with torch._C.DisableTorchFunction():  # neither the user's modes nor subclasses see what we read
                self._modules.forward(row, output)
        except Exception as error:  # noqa: BLE001  no exception of ours reaches the user's loop
            self._broken.add(row)
            self.recorder.lose(f"{self._registry.executed[row].path or '(root)'}: {error!r}")
        self.recorder.spent += perf_counter() - start
        self._deliver()

    def _row(self, module: nn.Module) -> int | None:
        if torch._C._get_tracing_state() is not None or torch._C._functorch.maybe_current_level() is not None:
            return None
        return self._registry.row(module)

    def _before_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._guarded(self._loop.step_begins)(optimizer)

    def _after_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._guarded(self._loop.step_ends)(optimizer)
        self._deliver()

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        """The function, timed, and with its exceptions turned into a note."""

        def guarded(*args: Any) -> None:
            start = perf_counter()
            try:
                with torch._C.DisableTorchFunction():
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

    def backward_ended(self) -> None:
        """`.grad` is filled."""
        if self._trace is not None:
            self._trace.backward_ended()

    def boundary(self, *, midway: bool) -> None:
        """The place to start or stop a trace."""
        if self._trace is not None and self._trace.finished():
            self._stop_trace()
        compiled = next(self._registry.compiled(), None) is not None if self._trace_wanted else False
        if self._trace_wanted and self._trace is None and not compiled:  # a function mode makes it recompile
            self._trace = Trace(self._registry)
            self._trace.start(midway=midway)
        self._trace_wanted = False

    def _stop_trace(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            self.recorder.operations = trace.stop()
            if trace.lost:
                self.recorder.lose(trace.lost)
