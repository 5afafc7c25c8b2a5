"""One global forward hook, and pre-hooks on the autograd nodes of outputs: activations and their gradients.

Nothing is stored on the user's modules, tensors or parameters, and the hooks on the graph hold neither a tensor with
data nor a node. Most modules take the short way (tap.py); this is the full one.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradscope.hooks.graph import SourceMap
from gradscope.hooks.loop import Loop, Phase, current_task
from gradscope.hooks.marks import version
from gradscope.hooks.outputs import tensors
from gradscope.hooks.parameters import Parameters
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry, containers
from gradscope.hooks.tap import Gradients, Output
from gradscope.hooks.transfer import Ticket
from gradscope.records import Call, Kind

Sites = dict[tuple[int, str], int]

# As plain numbers: combining flags takes microseconds.
GRAD, NO_GRAD, OUTPUT_REQUIRES_GRAD = int(Call.GRAD), int(Call.NO_GRAD), int(Call.OUTPUT_REQUIRES_GRAD)


class Modules:
    """Captures what modules return and the gradients that come back to it."""

    def __init__(
        self,
        registry: Registry,
        recorder: Recorder,
        loop: Loop,
        parameters: Parameters,
        guarded: Callable[[Callable[..., None]], Callable[..., None]],
    ) -> None:
        self._registry = registry
        self._recorder = recorder
        self._loop = loop
        self._parameters = parameters
        self._tap = recorder.tap
        self._graph = SourceMap(registry.executed, recorder.sources, self._tap.passed)
        self._outputs: Sites = {}
        self._gradients: Sites = {}
        self._with_sites: set[int] = set()
        self._learned: set[int] = set()
        self._outermost: set[int] = set()
        self._inner: frozenset[int] = frozenset()
        self._leaves: dict[tuple[Any, int], RemovableHandle] = {}
        self._backward_passes = guarded(self._sentinel)
        self._backward_ended = guarded(loop.backward_ends)
        self._tap.connect(_Unmodified, guarded(self._gradient))

    def forward(self, module: nn.Module, row: int, output: Any) -> None:
        """A module of the watched model has returned."""
        grad = torch.is_grad_enabled()
        if grad and self._loop.phase is not Phase.FORWARD and current_task() == -1:
            self._loop.forward_begins()
            if self._tap.forward(module, output):
                return
        if self._recorder.observing:
            self._observe(row, output, grad)
            self._learn_place(module, row, output)
        elif grad and row not in self._inner:
            self._stand_guard(output)

    def inner(self) -> frozenset[int]:
        """The ids of the modules that others call: they need not be heard of to notice a backward."""
        return self._registry.identities(self._inner)

    def last_module(self) -> str:
        """The module whose output's gradient arrived last.

        A container that returns its last child's output gets the same gradient right after it.
        """
        last = ""
        for path in (self._registry.executed[row].path for row in self._tap.arrived):
            last = last if path in containers(last) else path
        return last

    def forget(self) -> None:
        """A step is over: let go of everything that belongs to its graph."""
        self._learn_inner()
        self._graph.forget()
        if self._leaves and self._loop.task == -1:  # else the forward of the running backward goes on to the next step
            for handle in self._leaves.values():
                handle.remove()
            self._leaves.clear()
        self._tap.measured.clear()
        self._tap.forget()

    def _learn_place(self, module: nn.Module, row: int, output: Any) -> None:
        """From now on the module may take the short way, whenever it returns a tensor like this one."""
        site, gradient = self._outputs.get((row, "")), self._gradients.get((row, ""))
        if type(output) is Tensor and site is not None and gradient is not None:
            self._registry.places[id(module)] = row, site, gradient

    def _learn_inner(self) -> None:
        """Which modules the user never calls directly."""
        rows = self._tap.called
        if rows != self._learned:
            called = {self._registry.executed[row].path: row for row in rows}
            within = {row for path, row in called.items() if not called.keys().isdisjoint(containers(path))}
            self._outermost |= rows - within
            self._inner = (self._inner | within) - self._outermost
            self._learned = set(rows)
        rows.clear()

    def _observe(self, row: int, output: Any, grad: bool) -> None:
        flags = GRAD if grad else NO_GRAD
        self._tap.called.add(row)
        if grad:
            for name, tensor in (("", output),) if type(output) is Tensor else tensors(output):
                if tensor.requires_grad:
                    flags |= OUTPUT_REQUIRES_GRAD
                self._capture(row, name, tensor)
            if row not in self._with_sites:
                self._with_sites.add(row)
                self._parameters.add_sites(row)
        calls = self._recorder.log.calls
        calls[row] = calls.get(row, 0) | flags

    def _capture(self, row: int, name: str, tensor: Tensor) -> None:
        site = self._outputs.get((row, name))
        if site is None:
            site = self._new_site(self._outputs, Kind.ACTIVATION, row, name, tensor)
        last = self._tap.again(tensor)
        if site is None or (last is not None and last[0] == site):  # compiled code that fell back to eager
            return
        waiting: list[int] = [] if last is None else last[2]
        if current_task() == -1 or site not in self._tap.measured:  # a checkpoint's second pass is no second call
            self._measure(site, tensor, None if last is None else last[1], waiting)
        if tensor.requires_grad:
            gradient = self._gradients.get((row, name))
            if gradient is None:
                gradient = self._new_site(self._gradients, Kind.ACTIVATION_GRADIENT, row, name, tensor)
            if gradient is not None:
                self._await_gradient(row, gradient, tensor, waiting)

    def _new_site(self, known: Sites, kind: Kind, row: int, name: str, tensor: Tensor) -> int | None:
        info = self._registry.executed[row]
        site = self._recorder.site(kind, info.path, info.type, name, tensor)
        if site is not None:
            known[row, name] = site
        return site

    def _measure(self, site: int, tensor: Tensor, known: Ticket | None, waiting: list[int]) -> None:
        """Measure an output, unless that was done: the module before has returned the very tensor (a container's)."""
        self._tap.measured.add(site)
        if known is None:
            ticket = self._recorder.measure(site, tensor)
        else:
            ticket = known
            self._recorder.repeat(site, known, tensor)
        if ticket is None:
            self._tap.forget()
        else:
            self._tap.remember(tensor, site, ticket, waiting)

    def _await_gradient(self, row: int, site: int, tensor: Tensor, sites: list[int]) -> None:
        """Have the gradient measured for a site, with those that wait for the same tensor's already."""
        grad_fn = tensor.grad_fn
        node = grad_fn or _node(tensor)
        self._graph.add(row, node)
        sites.append(site)
        if len(sites) > 1:
            return
        fired = self._await_base(row, sites, tensor) if tensor._is_view() else None
        hook = self._tap.output(row, sites, tensor.output_nr, fired, None)
        if grad_fn is not None:
            node.register_prehook(hook)
        elif (node, site) not in self._leaves:  # a leaf's node may outlive the step, and serve several forwards
            self._leaves[node, site] = node.register_prehook(hook)

    def _await_base(self, row: int, sites: list[int], view: Tensor) -> set[int] | None:
        """A view that is modified in place gets a new node, and its own hook never fires; its base's does.

        Returns what both hooks note when they fire; None when the base cannot stand in.
        """
        base = view._base
        if base is None or base.grad_fn is None or base.numel() != view.numel():
            return None
        fired: set[int] = set()
        base.grad_fn.register_prehook(self._tap.output(row, sites, base.output_nr, fired, _Unmodified(view)))
        return fired

    def _gradient(self, output: Output, gradients: Gradients) -> None:
        """The gradient of the loss with respect to an output has arrived; with a guard, that of the output's base."""
        if self._loop.task == -1:
            self._begin_backward()
        task = self._loop.task
        if output.fired is not None:
            if output.guard is not None and (task in output.fired or output.guard.still()):
                return
            output.fired.add(task)
        self._tap.arrived.append(output.row)
        gradient = gradients[output.index]
        if gradient is None:
            return
        ticket = self._recorder.measure(output.sites[0], gradient, task)
        if ticket is not None:
            for site in output.sites[1:]:
                self._recorder.repeat(site, ticket, gradient, task)

    def _stand_guard(self, output: Any) -> None:
        for _, tensor in tensors(output):
            if tensor.requires_grad:
                _node(tensor).register_prehook(self._backward_passes)

    def _sentinel(self, _gradients: Gradients) -> None:
        if self._loop.task == -1:
            self._begin_backward()

    def _begin_backward(self) -> None:
        self._graph.forget()
        self._tap.arrived.clear()
        self._loop.backward_begins(current_task())
        queue = torch.autograd.Variable._execution_engine.queue_callback
        # Queued from within the queue, the end comes after what others (DDP) queued for theirs.
        queue(lambda: queue(self._backward_ended))


class _Unmodified:
    """Tells later whether a tensor was modified in place, without holding it, its data or its graph."""

    __slots__ = ("_counter", "_version")

    _nothing: ClassVar[dict[tuple[torch.dtype, torch.device], Tensor]] = {}

    def __init__(self, tensor: Tensor) -> None:
        kind = tensor.dtype, tensor.device
        if kind not in self._nothing:
            self._nothing[kind] = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        self._counter = tensor.detach()  # shares the version counter, and then gives up the data
        self._counter.data = self._nothing[kind]
        self._version = version(tensor)

    def still(self) -> bool:
        """True while it was not modified."""
        return version(self._counter) == self._version


def _node(tensor: Tensor) -> Any:
    """The autograd node of an output; for a leaf the one that accumulates into it."""
    return tensor.grad_fn or torch.autograd.graph.get_gradient_edge(tensor).node
