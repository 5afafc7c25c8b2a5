"""Runs a program twice from one seed, watched and unwatched, and compares every bit that it leaves."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _pop_mode
from torch.utils import _pytree as pytree

import gradscope
from gradscope.events import EventKind, LoopEvent
from gradscope.findings import Severity
from gradscope.records import Kind, Recording, Statistic

ROUNDS = 4

Build = Callable[[], nn.Module]
Loop = Callable[[Any], object]
Watch = Callable[[nn.Module], AbstractContextManager[Any]]
Outcome = dict[str, object]


def untouched(build: Build, loop: Loop, *, lost: Sequence[str] = (), traced: bool = False, **options: Any) -> Any:
    """Watch a healthy program, and fail if anything differs from the unwatched one.

    `build` makes the model, `loop` trains it; what it returns is compared too. `lost` are the notes that are
    expected; `traced` asks for a trace of the first whole step. Returns the closed scope.
    """
    scopes: list[gradscope.Scope] = []

    def watch(model: nn.Module) -> gradscope.Scope:
        scopes.append(gradscope.watch(model, **options))
        if traced:
            scopes[0].trace_next()
        return scopes[0]

    bare, watched = _outcome(build, loop, lambda _: nullcontext()), _outcome(build, loop, watch)
    assert _modes_left() == []
    assert [key for key in bare | watched if bare.get(key) != watched.get(key)] == []
    (scope,) = scopes
    assert sorted(scope.recording.lost) == sorted(lost)
    assert [str(finding) for finding in scope.findings if finding.severity is not Severity.NOTE] == []
    return scope


def _modes_left() -> list[Any]:
    """Function modes that the program left on the stack, taken off it so that the next test starts without them."""
    return [_pop_mode() for _ in range(torch._C._len_torch_function_stack())]


def _outcome(build: Build, loop: Loop, watch: Watch) -> Outcome:
    torch.manual_seed(0)
    model = build()
    with watch(model):
        results = loop(model)
    return dict(_left(model, results))


def _left(model: nn.Module, results: object) -> Iterator[tuple[str, object]]:
    for i, leaf in enumerate(pytree.tree_leaves(results)):
        yield f"result {i}", bits(leaf) if isinstance(leaf, Tensor) else leaf
    for name, parameter in model.named_parameters():
        yield f"parameter {name}", (bits(parameter), parameter._version)
        if parameter.grad is not None:
            yield f"gradient {name}", (bits(parameter.grad), parameter.grad._version)
    for name, buffer in model.named_buffers():
        yield f"buffer {name}", bits(buffer)
    yield "random numbers", bits(torch.get_rng_state())


def bits(tensor: Tensor) -> tuple[object, ...]:
    """Everything that tells a tensor from another one: type, dtype, layout, shape, flags and the bits."""
    plain = tensor.detach()
    plain = plain if type(plain) is Tensor else plain.as_subclass(Tensor)
    kind = (type(tensor).__name__, tensor.dtype, tensor.layout, tensor.requires_grad)
    if plain.is_nested:
        return *kind, *(bits(part) for part in plain.unbind())
    if plain.layout is torch.sparse_coo:
        return *kind, plain.is_coalesced(), bits(plain._indices()), bits(plain._values())
    if plain._is_zerotensor():
        return *kind, plain.shape
    flags = (plain.shape, plain.stride(), plain.is_conj(), plain.is_neg())
    plain = plain.resolve_conj().resolve_neg()
    real = torch.view_as_real(plain) if plain.is_complex() else plain
    return *kind, *flags, real.reshape(-1).view(torch.uint8).numpy().tobytes()


def mlp() -> nn.Module:
    """A small healthy model on (N, 6)."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """SGD over everything that requires grad."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)


def loss_of(model: nn.Module) -> Tensor:
    """A loss on a random batch."""
    output: Tensor = model(torch.randn(5, 6))
    return output.square().mean()


def fit(
    model: nn.Module, loss: Callable[[Any], Tensor] = loss_of, optimizer: torch.optim.Optimizer | None = None
) -> list[Tensor]:
    """A plain loop of `ROUNDS` steps. Returns its losses."""
    made, losses = optimizer or sgd(model), list[Tensor]()
    for _ in range(ROUNDS):
        made.zero_grad()
        value = loss(model)
        value.backward()
        made.step()
        losses.append(value.detach())
    return losses


def counts(recording: Recording, kind: Kind, row: int = -1) -> dict[str, int]:
    """How many elements each site measured in an observed step; sites that measured none are left out."""
    return {path: int(value) for path, value in _table(recording, kind, Statistic.COUNT, row).items() if value}


def rms(recording: Recording, kind: Kind, row: int = -1) -> dict[str, float]:
    """The root mean square of each site in an observed step."""
    return _table(recording, kind, Statistic.RMS, row)


def _table(recording: Recording, kind: Kind, statistic: Statistic, row: int) -> dict[str, float]:
    values = recording.values(kind, statistic)[row].tolist()
    return dict(zip((site.path for site in recording.sites_of(kind)), values, strict=True))


def step_events(recording: Recording) -> list[LoopEvent]:
    """What optimizers did, in order."""
    return [event for step in recording.steps for event in step.events if event.kind is EventKind.STEP]
