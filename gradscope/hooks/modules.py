"""One global forward hook, and pre-hooks on the autograd nodes of outputs: activations and their gradients.

Nothing is stored on the user's modules, tensors or parameters, and the closures on the graph hold neither a
tensor with data nor a node.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from gradscope.hooks import statistics
from gradscope.hooks.graph import SourceMap
from gradscope.hooks.loop import Loop, Phase, current_task
from gradscope.hooks.outputs import tensors
from gradscope.hooks.parameters import Parameters
from gradscope.hooks.recorder import Recorder
from gradscope.hooks.registry import Registry, containers
from gradscope.hooks.transfer import Ticket
from gradscope.records import Call, Kind

Gradients = tuple[Tensor | None, ...]
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
        self._graph = SourceMap(registry.executed, recorder.sources)
        self._outputs: Sites = {}
        self._gradients: Sites = {}
        self._with_sites: set[int] = set()
        self._called: set[int] = set()
        self._learned: set[int] = set()
        self._outermost: set[int] = set()
        self._inner: frozenset[int] = frozenset()
        self._last: _Measured | None = None
        self._measured: set[int] = set()
        self._leaves: dict[tuple[Any, int], RemovableHandle] = {}
        self._arrived: list[int] = []
        self._gradient_arrives = guarded(self._gradient)
        self._backward_passes = guarded(self._sentinel)
        self._backward_ended = guarded(loop.backward_ends)

    def forward(self, row: int, output: Any) -> None:
        """A module of the watched model has returned."""
        grad = torch.is_grad_enabled()
        if grad and self._loop.phase is not Phase.FORWARD and current_task() == -1:
            self._loop.forward_begins()
        if self._recorder.observing:
            self._observe(row, output, grad)
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
        for path in (self._registry.executed[row].path for row in self._arrived):
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
        self._measured.clear()
        self._last = None

    def _learn_inner(self) -> None:
        """Which modules the user never calls directly."""
        if self._called != self._learned:
            called = {self._registry.executed[row].path: row for row in self._called}
            within = {row for path, row in called.items() if not called.keys().isdisjoint(containers(path))}
            self._outermost |= self._called - within
            self._inner = (self._inner | within) - self._outermost
            self._learned = set(self._called)
        self._called.clear()

    def _observe(self, row: int, output: Any, grad: bool) -> None:
        flags = GRAD if grad else NO_GRAD
        self._called.add(row)
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
        last = self._last if self._last is not None and self._last.still(tensor) else None
        if site is None or (last is not None and last.site == site):  # compiled code that fell back to eager
            return
        if current_task() == -1 or site not in self._measured:  # a checkpoint's second pass is no second call
            last = self._measure(site, tensor, last)
        if tensor.requires_grad:
            gradient = self._gradients.get((row, name))
            if gradient is None:
                gradient = self._new_site(self._gradients, Kind.ACTIVATION_GRADIENT, row, name, tensor)
            if gradient is not None:
                self._await_gradient(row, gradient, tensor, [] if last is None else last.gradients)

    def _new_site(self, known: Sites, kind: Kind, row: int, name: str, tensor: Tensor) -> int | None:
        info = self._registry.executed[row]
        site = self._recorder.site(kind, info.path, info.type, name, tensor)
        if site is not None:
            known[row, name] = site
        return site

    def _measure(self, site: int, tensor: Tensor, last: "_Measured | None") -> "_Measured | None":
        """Measure an output, unless it is the very tensor that the module before returned (a container's)."""
        self._measured.add(site)
        if last is not None:
            self._recorder.repeat(site, last.ticket, tensor)
            last.site = site
            return last
        ticket = self._recorder.measure(site, tensor)
        self._last = None if ticket is None else _Measured(tensor, site, ticket)
        return self._last

    def _await_gradient(self, row: int, site: int, tensor: Tensor, sites: list[int]) -> None:
        """Have the gradient measured for a site, with those that wait for the same tensor's already."""
        grad_fn = tensor.grad_fn
        node = grad_fn or _node(tensor)
        self._graph.add(row, node)
        sites.append(site)
        if len(sites) > 1:
            return
        fired = self._await_base(row, sites, tensor) if tensor._is_view() else None
        hook = partial(self._gradient_arrives, row, sites, tensor.output_nr, fired, None)
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
        hook = partial(self._gradient_arrives, row, sites, base.output_nr, fired, _Unmodified(view))
        base.grad_fn.register_prehook(hook)
        return fired

    def _gradient(
        self,
        row: int,
        sites: list[int],
        output: int,
        fired: set[int] | None,
        view: "_Unmodified | None",
        gradients: Gradients,
    ) -> None:
        """The gradient of the loss with respect to an output has arrived; with `view`, that of the output's base."""
        if self._loop.task == -1:
            self._begin_backward()
        task = self._loop.task
        if fired is not None:
            if view is not None and (task in fired or view.still()):
                return
            fired.add(task)
        self._arrived.append(row)
        gradient = gradients[output]
        if gradient is None:
            return
        ticket = self._recorder.measure(sites[0], gradient, task)
        if ticket is not None:
            for site in sites[1:]:
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
        self._arrived.clear()
        self._loop.backward_begins(current_task())
        queue = torch.autograd.Variable._execution_engine.queue_callback
        # Queued from within the queue, the end comes after what others (DDP) queued for theirs.
        queue(lambda: queue(self._backward_ended))


class _Measured:
    """The output that was measured last, where its measurement is, and the sites that await its gradient."""

    __slots__ = ("_tensor", "_version", "gradients", "site", "ticket")

    def __init__(self, tensor: Tensor, site: int, ticket: Ticket) -> None:
        self._tensor = ref(tensor)
        self._version = _version(tensor)
        self.site = site
        self.ticket = ticket
        self.gradients: list[int] = []

    def still(self, tensor: Tensor) -> bool:
        """Whether this is that tensor, unchanged."""
        return self._tensor() is tensor and self._version == _version(tensor)


class _Unmodified:
    """Tells later whether a tensor was modified in place, without holding it, its data or its graph."""

    def __init__(self, tensor: Tensor) -> None:
        with statistics.undisturbed():
            self._counter = tensor.detach()  # shares the version counter, and then gives up the data
            self._counter.data = tensor.new_empty(0)
        self._version = _version(tensor)

    def still(self) -> bool:
        """True while it was not modified."""
        return _version(self._counter) == self._version


def _node(tensor: Tensor) -> Any:
    """The autograd node of an output; for a leaf the one that accumulates into it."""
    return tensor.grad_fn or torch.autograd.graph.get_gradient_edge(tensor).node


def _version(tensor: Tensor) -> int:
    """How often a tensor was modified in place; inference tensors do not count that."""
    return -1 if tensor.is_inference() else tensor._version
