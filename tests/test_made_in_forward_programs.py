"""Programs whose forward makes parameters: anew in each call, or as it should be."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

import gradscope

STEPS = 6


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.head: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.first(x)
        return out


def fit(net: nn.Module) -> gradscope.Scope:
    torch.manual_seed(0)
    with gradscope.watch(net) as scope:
        optimizer: torch.optim.Optimizer | None = None
        for _ in range(STEPS):
            loss = net(torch.randn(5, 6)).square().mean()
            optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=0.01)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


# Sick.


class LayerInForward(Net):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.Linear(8, 2)(self.first(x))
        return out


class ScaleInForward(Net):
    def forward(self, x: Tensor) -> Tensor:
        scale = nn.Parameter(torch.ones(8))
        out: Tensor = self.first(x) * scale
        return out


# Healthy.


class KeptLater(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.head is None:
            self.head = nn.Linear(h.size(1), 2)
        out: Tensor = self.head(h)
        return out


class FixedKernel(Net):
    def forward(self, x: Tensor) -> Tensor:
        kernel = nn.Parameter(torch.eye(8)[:4], requires_grad=False)
        out: Tensor = linear(self.first(x), kernel)
        return out


class Noise(Net):
    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.first(x)
        return h + torch.randn(8, requires_grad=True) * 0.1


class Unused(Net):
    def forward(self, x: Tensor) -> Tensor:
        nn.Linear(8, 2)(self.first(x).detach())
        out: Tensor = self.first(x)
        return out


@pytest.mark.parametrize("net", [LayerInForward, ScaleInForward])
def test_a_parameter_of_each_forward_is_told_with_its_line(net: type[Net]) -> None:
    (finding,) = fit(net()).findings
    assert (finding.analyzer, finding.step) == ("unregistered-parameter", 0)
    assert finding.location is not None
    assert finding.location.source.split("(")[0] in ("out: Tensor = nn.Linear", "scale = nn.Parameter")


@pytest.mark.parametrize("net", [KeptLater, FixedKernel, Noise, Unused])
def test_silent_on(net: type[Net]) -> None:
    assert not [f for f in fit(net()).findings if f.severity is not gradscope.Severity.NOTE]


def test_silent_on_parameters_that_are_made_outside_of_a_forward() -> None:
    """A task of its own: a fresh head for each, which a step by hand adapts."""
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            head = nn.Linear(8, 2)
            x = torch.randn(5, 6)
            (slope,) = torch.autograd.grad(head(net(x)).square().mean(), head.weight, create_graph=True)
            optimizer.zero_grad()
            linear(net(x), head.weight - 0.1 * slope).square().mean().backward()
            optimizer.step()
    assert not scope.findings
