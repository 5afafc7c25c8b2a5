"""Ways to watch: gradscope's, what users write by hand, and the least that reading everything once takes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle
from torch.utils.tensorboard import SummaryWriter

import gradscope.reports.tensorboard  # noqa: F401  its clocks must be there before they are made to stand still
from benchmarks.timing import Program, Step, Way
from gradscope.scope import Scope, watch

LONG_AGO = 10**9


@contextmanager
def bare(program: Program) -> Iterator[Step]:
    """Nothing."""
    yield program.step


@contextmanager
def full(program: Program) -> Iterator[Step]:
    """Everything, on every step."""
    with watch(program.model, every=1):
        yield program.step


@contextmanager
def between(program: Program) -> Iterator[Step]:
    """Attached, on steps that are not observed."""
    with watch(program.model, every=LONG_AGO):
        yield program.step


@contextmanager
def default(program: Program) -> Iterator[Step]:
    """As users write it."""
    with watch(program.model) as scope:
        program.report = lambda: _summary(scope)
        yield program.step


@contextmanager
def default_logdir(program: Program) -> Iterator[Step]:
    """The same, and TensorBoard data are written."""
    with TemporaryDirectory() as folder, watch(program.model, logdir=folder) as scope:
        program.report = lambda: _summary(scope)
        yield program.step


@contextmanager
def traced(program: Program) -> Iterator[Step]:
    """Every step traced, without statistics."""
    with watch(program.model, every=LONG_AGO, analyzers=[]) as scope:

        def step() -> None:
            scope.trace_next()
            program.step()

        yield step


def _summary(scope: Scope) -> str:
    report = scope.report()
    found = ", ".join(sorted({finding.analyzer for finding in report.findings})) or "nothing"
    return f"observed {report.observed} of {report.steps} steps, by its own account {report.cost:.1%}; found {found}"


class OneRead:
    """Reads each output, each output gradient and each parameter gradient once, and does nothing with it.

    It is the limit for all that look at everything, so it is written to be fast.
    """

    def __init__(self, program: Program) -> None:
        self._parameters = [parameter for _, parameter in program.parameters()]
        self._cells = {kind: torch.empty((), dtype=kind) for kind in (torch.float32, torch.bfloat16, torch.float16)}
        self._last: tuple[Tensor | None, int] = (None, 0)

    def forward(self, _module: nn.Module, _args: Any, output: Any) -> None:
        """A module has returned; what it returns may be what its last child has returned."""
        for tensor in (output,) if type(output) is Tensor else tensors(output):
            known, version = self._last
            self._last = (tensor, tensor._version)  # noqa: SLF001  no public name
            if tensor is known and version == self._last[1]:
                continue
            self.read(tensor.detach())
            node = tensor.grad_fn
            if node is not None:
                node.register_prehook(self._reader(tensor.output_nr))

    def stepped(self, _optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        """An optimizer has stepped."""
        for parameter in self._parameters:
            gradient = parameter.grad
            if gradient is not None:
                self.read(gradient)

    def read(self, tensor: Tensor) -> None:
        """One sum, of a tensor that autograd does not follow."""
        torch.sum(tensor, (), out=self._cells[tensor.dtype])

    def _reader(self, index: int) -> Callable[[tuple[Tensor | None, ...]], None]:
        read = self.read

        def reader(gradients: tuple[Tensor | None, ...]) -> None:
            gradient = gradients[index]
            if gradient is not None:
                read(gradient)

        return reader


@contextmanager
def one_read(program: Program) -> Iterator[Step]:
    """The limit: one sum of everything that gradscope measures."""
    reader = OneRead(program)
    handles = (register_module_forward_hook(reader.forward), register_optimizer_step_post_hook(reader.stepped))
    try:
        yield program.step
    finally:
        for handle in handles:
            handle.remove()


class ByHand:
    """Hooks as users write them: a number of each tensor, fetched at once."""

    def __init__(self, program: Program) -> None:
        self.numbers: dict[str, float] = {}
        self.handles: list[RemovableHandle] = []
        for path, module in program.model.named_modules():
            self.handles.append(module.register_forward_hook(self._forward(path)))
        for name, parameter in program.parameters():
            self.handles.append(parameter.register_hook(self._gradient(name)))

    def _forward(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            for tensor in tensors(output):
                self.numbers[path] = tensor.detach().abs().mean().item()
                if tensor.requires_grad:
                    tensor.register_hook(self._gradient(f"{path}.output"))

        return hook

    def _gradient(self, name: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            self.numbers[name] = gradient.norm().item()

        return hook


@contextmanager
def by_hand(program: Program) -> Iterator[Step]:
    """Forward hooks and gradient hooks with `.item()`, on every module and parameter."""
    hooks = ByHand(program)
    try:
        yield program.step
    finally:
        for handle in hooks.handles:
            handle.remove()


@contextmanager
def histograms(program: Program) -> Iterator[Step]:
    """A TensorBoard histogram of every parameter's gradient."""
    with TemporaryDirectory() as folder, SummaryWriter(folder) as writer:

        def step() -> None:
            program.step()
            for name, parameter in program.parameters():
                if parameter.grad is not None:
                    writer.add_histogram(name, parameter.grad)

        yield step


def tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module returns."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        yield from tensors(tuple(output.values()))
    elif isinstance(output, tuple | list):
        for part in output:
            yield from tensors(part)


NOISE = Way("bare against bare", bare)
FULL = Way("gradscope, every step", full)
BETWEEN = Way("gradscope, between observed steps", between, error=0.003)
LIMIT = Way("one read of each tensor (the limit)", one_read)
DEFAULT = Way("gradscope, default", default)
LOGDIR = Way("gradscope, default, with a logdir", default_logdir)

STEADY = (NOISE, FULL, BETWEEN, LIMIT)
WHOLE = (DEFAULT, LOGDIR)
IN_TURNS = (
    Way("gradscope, every step traced", traced),
    Way("hooks by hand, with .item()", by_hand),
    Way("SummaryWriter.add_histogram of each gradient", histograms),
)
