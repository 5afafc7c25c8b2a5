"""Compiled models: the same bits, no graph break, no recompilation per step, and a note of what is hidden."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import gradscope
from gradscope.records import Kind

STEPS = 4

# Dynamo itself warns about its access to .grad while it compiles.
pytestmark = pytest.mark.filterwarnings("default:The .grad attribute of a Tensor that is not a leaf")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()  # type: ignore[no-any-return]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(x)
        return output


Way = Callable[[Net, Any], Any]


def whole(net: Net, backend: Any) -> Any:
    return torch.compile(net, backend=backend, fullgraph=True)


def in_place(net: Net, backend: Any) -> Any:
    net.compile(backend=backend, fullgraph=True)
    return net


def per_block(net: Net, backend: Any) -> Any:
    for block in net.blocks:
        block.compile(backend=backend, fullgraph=True)
    return net


def wrapped_blocks(net: Net, backend: Any) -> Any:
    for i, block in enumerate(net.blocks):
        net.blocks[i] = torch.compile(block, backend=backend, fullgraph=True)  # type: ignore[assignment]
    return net


@dataclass
class Run:
    losses: list[float]
    parameters: list[Tensor]
    graphs: list[int]
    scope: gradscope.Scope | None


def run(way: Way, when: str, *, watched: bool) -> Run:
    torch._dynamo.reset()
    torch.manual_seed(0)
    net, counter = Net(), CompileCounter()
    called = net if when == "after" else way(net, counter)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    watching: AbstractContextManager[Any] = gradscope.watch(net) if watched else nullcontext()
    losses, graphs = [], []
    with watching as scope:
        if when == "after":
            called = way(net, counter)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = called(torch.randn(4, 8)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            graphs.append(counter.frame_count)
    return Run(losses, [p.detach().clone() for p in net.parameters()], graphs, scope)


@pytest.mark.parametrize("way", [whole, in_place, per_block, wrapped_blocks], ids=lambda way: way.__name__)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compiled_model_trains_as_without_us(way: Way, when: str) -> None:
    bare, watched = run(way, when, watched=False), run(way, when, watched=True)
    assert watched.losses == bare.losses
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters, bare.parameters, strict=True))
    assert watched.graphs == bare.graphs
    assert watched.scope is not None
    recording = watched.scope.recording
    assert len(recording.steps) == STEPS
    for kind in (Kind.PARAMETER, Kind.PARAMETER_GRADIENT, Kind.UPDATE):
        assert len(recording.sites_of(kind)) >= 8
    assert watched.scope.findings == ()
    assert all("compiled code" in note for note in recording.lost)
    assert recording.lost


@pytest.mark.parametrize(
    ("way", "seen"),
    [(whole, {""}), (per_block, {"", "head"}), (wrapped_blocks, {"", "head", "blocks.0", "blocks.1", "blocks.2"})],
    ids=["whole", "per_block", "wrapped_blocks"],
)
def test_the_results_of_compiled_regions_are_captured(way: Way, seen: set[str]) -> None:
    scope = run(way, "before", watched=True).scope
    assert scope is not None
    for kind in (Kind.ACTIVATION, Kind.ACTIVATION_GRADIENT):
        assert {site.module for site in scope.recording.sites_of(kind)} == seen


def test_torchs_warning_about_global_hooks_is_not_shown_and_its_filter_goes_again() -> None:
    run(whole, "after", watched=False)  # torch's compiler adds filters of its own when it is first used
    before = list(warnings.filters)
    run(whole, "after", watched=True)
    assert list(warnings.filters) == before


def test_a_scope_that_closes_takes_no_filter_from_another() -> None:
    before = list(warnings.filters)
    with gradscope.watch(nn.Linear(2, 1)):
        with gradscope.watch(nn.Linear(2, 1)):
            pass
        warnings.warn("Using `torch.compile(module)` when there are global hooks on modules", stacklevel=1)
    assert list(warnings.filters) == before
