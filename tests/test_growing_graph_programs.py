"""Programs whose graph grows from step to step, and those in which it does not."""

from collections import deque
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.findings import Severity


class Leaky(nn.Module):
    """A state that leaks, as a layer of spiking neurons has it."""

    def __init__(self, *, detach: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 8)
        self.detach = detach
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        before = torch.zeros(x.shape[0], 8) if self.state is None else self.state
        self.state = 0.9 * (before.detach() if self.detach else before) + self.inner(x)
        return self.state


def kept_in_a_module(kind: type[torch.optim.Optimizer], *, detach: bool = False) -> gradscope.Scope:
    net = Leaky(detach=detach)
    optimizer = kind(net.parameters(), lr=0.01)  # type: ignore[call-arg]
    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.zero_grad()
            net(torch.randn(5, 6)).square().mean().backward(retain_graph=True)
            optimizer.step()
    return scope


def losses_summed_up(kind: type[torch.optim.Optimizer], *, detach: bool = False) -> gradscope.Scope:
    net = nn.Linear(6, 2)
    optimizer = kind(net.parameters(), lr=0.01)  # type: ignore[call-arg]
    total = torch.zeros(())
    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.zero_grad()
            loss = net(torch.randn(5, 6)).square().mean()
            total = total + (loss.detach() if detach else loss)
            (loss if detach else total).backward(retain_graph=True)
            optimizer.step()
    return scope


def by_hand(kind: type[torch.optim.Optimizer], *, detach: bool = False) -> gradscope.Scope:
    """A recurrent network whose weights are moved through .data, which autograd does not notice."""
    cell, head = nn.RNNCell(6, 8), nn.Linear(8, 1)
    net = nn.ModuleDict({"cell": cell, "head": head})
    hidden = torch.zeros(5, 8)
    with gradscope.watch(net) as scope:
        for _ in range(12):
            hidden = cell(torch.randn(5, 6), hidden.detach() if detach else hidden)
            net.zero_grad()
            head(hidden).square().mean().backward(retain_graph=not detach)
            for parameter in net.parameters():
                assert parameter.grad is not None
                parameter.data -= 0.01 * parameter.grad
    return scope


SICK = (kept_in_a_module, losses_summed_up, by_hand)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("program", SICK)
def test_it_is_found_with_the_line_of_the_backward(
    program: Callable[[type[torch.optim.Optimizer]], gradscope.Scope], kind: type[torch.optim.Optimizer]
) -> None:
    findings = program(kind).findings
    assert [finding.analyzer for finding in findings] == ["growing-graph"]
    assert findings[0].step == 1
    assert "backward(retain_graph=" in str(findings[0])


@pytest.mark.parametrize("program", SICK)
def test_silent_with_a_detach(program: Callable[..., gradscope.Scope]) -> None:
    assert program(torch.optim.SGD, detach=True).findings == ()


def test_the_end_that_it_comes_to_is_told() -> None:
    cell, head = nn.LSTMCell(6, 8), nn.Linear(8, 1)
    net = nn.ModuleDict({"cell": cell, "head": head})
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    scope = gradscope.watch(net)

    def train(state: tuple[Tensor, Tensor]) -> None:
        with scope:
            for _ in range(5):
                state = cell(torch.randn(5, 6), state)
                optimizer.zero_grad()
                head(state[0]).square().mean().backward()
                optimizer.step()

    with pytest.raises(RuntimeError, match="second time"):
        train((torch.zeros(5, 8), torch.zeros(5, 8)))
    (finding,) = scope.findings
    assert (finding.analyzer, finding.severity, finding.step) == ("growing-graph", Severity.ERROR, 1)
    assert "head(state[0]).square().mean().backward()" in str(finding)


def curriculum() -> gradscope.Scope:
    cell, head = nn.LSTMCell(6, 8), nn.Linear(8, 1)
    net = nn.ModuleDict({"cell": cell, "head": head})
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(12):
            state = (torch.zeros(5, 8), torch.zeros(5, 8))
            for _ in range(step + 1):
                state = cell(torch.randn(5, 6), state)
            optimizer.zero_grad()
            head(state[0]).square().mean().backward()
            optimizer.step()
    return scope


def sliding_window() -> gradscope.Scope:
    net = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    window: deque[Tensor] = deque(maxlen=4)
    with gradscope.watch(net) as scope:
        for _ in range(15):
            optimizer.zero_grad()
            window.append(net(torch.randn(5, 6)))
            torch.stack(list(window)).square().mean().backward(retain_graph=True)
            optimizer.step()
    return scope


def two_losses_on_one_graph() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.zero_grad()
            output = net(torch.randn(5, 6))
            output.square().mean().backward(retain_graph=True)
            output.abs().mean().backward()
            optimizer.step()
    return scope


def losses_kept_for_a_table() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.zero_grad()
            losses.append(net(torch.randn(5, 6)).square().mean())
            losses[-1].backward()
            optimizer.step()
        assert torch.stack(losses).sum().item() > 0
    return scope


def more_and_more_micro_batches() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(12):
            optimizer.zero_grad()
            for _ in range(step + 1):
                (net(torch.randn(5, 6)).square().mean() / (step + 1)).backward()
            optimizer.step()
    return scope


def checkpointed() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.zero_grad()
            made: Tensor = torch.utils.checkpoint.checkpoint(net, torch.randn(5, 6), use_reentrant=False)
            made.square().mean().backward()
            optimizer.step()
    return scope


@pytest.mark.parametrize(
    "program",
    [
        curriculum,
        sliding_window,
        two_losses_on_one_graph,
        losses_kept_for_a_table,
        more_and_more_micro_batches,
        checkpointed,
    ],
)
def test_silent_on(program: Callable[[], gradscope.Scope]) -> None:
    assert [found for found in program().findings if found.severity != Severity.NOTE] == []
