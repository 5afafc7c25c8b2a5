"""When a trace runs: in the first step, later on request, for as long as it takes all optimizers to step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from gradscope.hooks.clipping import Clipping
from gradscope.hooks.functions import FunctionCalls
from gradscope.hooks.ledger import Ledger
from gradscope.hooks.loop import Loop, Phase, current_task
from gradscope.hooks.modes import compiles
from gradscope.hooks.operations import Trace
from gradscope.hooks.provenance import Provenance
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Indices, Registry
from gradscope.traces import Operation

Guard = Callable[[Callable[..., None]], Callable[..., None]]

MOST_TRACES = 5
LONGEST = 16

# In evaluation they take a fast path, which any function mode would switch off.
FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)


class Tracer:
    """Starts and stops traces.

    A trace starts where the first forward of a step does, in training only; a mode on the stack would switch off
    fast paths of evaluation. It never starts in a process that compiles: compiled code would be compiled again.
    """

    def __init__(self, registry: Registry, recorder: Recorder, loop: Loop, guarded: Guard) -> None:
        self._registry = registry
        self._recorder = recorder
        self._loop = loop
        self._before_forward = guarded(self._about_to_run)
        self._entry: RemovableHandle | None = None
        self._awaited = False
        self._trace: Trace | None = None
        self._functions = FunctionCalls()
        self._running: list[tuple[nn.Module, str]] = []
        self._paused_in: nn.Module | None = None
        self._known: set[int] = set()
        self._optimizers: list[int] = []
        self._stepped: dict[int, frozenset[str]] = {}
        self._boundaries = 0
        self._over = False
        self._traces = 0

    @property
    def active(self) -> bool:
        """Whether a trace runs or is waited for."""
        return self._trace is not None or self._awaited

    def request(self) -> None:
        """Trace the next step, unless that has been done often enough."""
        if self._traces < MOST_TRACES:
            self.trace_next()

    def trace_next(self) -> None:
        """Trace from the next step's first forward on."""
        if self.active or compiles():
            return
        self._awaited = True
        if self._entry is None:
            self._entry = register_module_forward_pre_hook(self._on_forward)

    def after_forward(self, module: nn.Module) -> None:
        """A module has returned, of the watched model or of any other."""
        trace = self._trace
        if trace is None or not trace.at_home():
            return
        self.stop_if_over()
        depth = next((i for i in reversed(range(len(self._running))) if self._running[i][0] is module), None)
        if depth is not None:
            del self._running[depth:]  # with those whose forward has raised
        if module is self._paused_in and self._trace is not None:
            self._paused_in = None
            trace.start()

    def backward_begins(self) -> None:
        """The first gradient of a backward arrives."""
        if self._trace is not None:
            self._trace.backward_begins()

    def step_begins(self) -> None:
        """An optimizer is about to step; after a backward, what follows is its own arithmetic."""
        if self._trace is not None and self._trace.at_home() and self._loop.phase is Phase.AFTER:
            self._trace.pause()

    def step_over(self) -> None:
        """It has stepped."""
        if self._trace is not None and self._trace.at_home() and self._paused_in is None:
            self._trace.start()

    def step_ends(self, optimizer: int, indices: Indices) -> None:
        """An optimizer, by its id, has stepped these parameters."""
        self._known.add(optimizer)
        step = self._recorder.log.index
        if self._trace is not None:
            self._optimizers.append(optimizer)
        if self._trace is not None or step in self._stepped:
            parameters = {self._registry.parameters[i].path for i in indices.tolist()}
            self._stepped[step] = self._stepped.get(step, frozenset()) | parameters

    def boundary(self) -> None:
        """A step may have ended."""
        self._boundaries += 1
        trace = self._trace
        if trace is not None:
            whole = trace.saw_loss and self._known <= set(self._optimizers)
            # Of several optimizers one has to step again: then each one's forward was seen, wherever it began.
            round_about = len(self._known) <= 1 or len(self._optimizers) > len(set(self._optimizers))
            self._over = (whole and round_about) or bool(trace.lost) or trace.full or self._boundaries >= LONGEST
        self.stop_if_over()

    def stop_if_over(self) -> None:
        """Stop where a step has ended, in the trace's own thread."""
        if self._over and self._trace is not None and self._trace.at_home():
            self.stop()

    def close(self) -> Operation | None:
        """Stop for good. Returns the operation that has raised, if one has just done so."""
        failed = self.stop()
        if self._entry is not None:
            self._entry.remove()
        return failed

    def stop(self) -> Operation | None:
        """Stop tracing, and waiting for a trace; as `close`."""
        trace, self._trace, self._over = self._trace, None, False
        if self._entry is not None and not compiles():  # else what was compiled would be compiled again
            self._entry.remove()
            self._entry = None
        self._running.clear()
        if trace is None:
            return None
        traced = self._recorder.trace = replace(trace.stop(), stepped=self._stepped)
        if trace.lost:
            self._recorder.lose(trace.lost)
        self._verify()
        return traced.failed()

    def _verify(self) -> None:
        verified, reasons = self._functions.verify()
        self._recorder.verifications.extend(verified)
        for reason in reasons:
            self._recorder.lose(reason)

    def _on_forward(self, module: nn.Module, _args: Any) -> None:
        """Only while a trace is wanted or runs."""
        if not torch.compiler.is_compiling() and current_task() == -1:
            self._before_forward(module)

    def _about_to_run(self, module: nn.Module) -> None:
        path = self._registry.module_path(module)
        if self._trace is None and self._awaited and path is not None and module.training:
            self._start_between_steps()
        if self._trace is not None and self._trace.at_home():
            self._running.append((module, self._path() if path is None else path))
            if self._paused_in is None and isinstance(module, FAST_PATHS) and not module.training:
                self._paused_in = module
                self._trace.pause()

    def _start_between_steps(self) -> None:
        if self._loop.phase is Phase.FORWARD or compiles():
            return
        self._awaited = False
        self._traces += 1
        self._boundaries = 0
        self._optimizers.clear()
        self._stepped = {}
        provenance = Provenance(self._registry)
        ledger = Ledger(provenance, self._path, lambda: self._loop.step, self._functions)
        self._trace = Trace(ledger, Clipping(self._registry, self._recorder))
        self._trace.start()

    def _path(self) -> str:
        """The path of the innermost module of the watched model that runs."""
        return self._running[-1][1] if self._running else ""
