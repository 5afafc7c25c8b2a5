"""Shapes that do not fit: the line that raised is named, and where the operands were made."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, failing, fit
from torch import Tensor, nn

import gradscope
from gradscope import Scope

MISMATCH = "shape-mismatch"

cases = Cases()


@cases.located(MISMATCH, "'fc2'", "'fc1'", "12", "10", "in_features=10")
def linear_after_linear() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(6, 10)
            self.fc2 = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Any:
            h = torch.relu(self.fc1(x))  # <- named
            return self.fc2(h)  # <- here

    return failing(Net())


@cases.located(MISMATCH, "'head'", "in_features=72", "64")
def linear_after_flatten() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3)
            self.head = nn.Linear(64, 4)

        def forward(self, x: Tensor) -> Any:
            h = torch.relu(self.conv(x))
            h = torch.flatten(h, 1)
            return self.head(h)  # <- here

    net = Net()
    return failing(net, lambda: net(torch.randn(5, 1, 5, 5)).square().mean())


@cases.located(MISMATCH, "'conv2'", "'conv1'", "8", "16")
def channels_of_convolutions() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(16, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Any:
            x = self.conv1(x)  # <- named
            return self.conv2(x)  # <- here

    net = Net()
    return failing(net, lambda: net(torch.randn(2, 3, 8, 8)).square().mean())


@cases.located(MISMATCH, "5, 8", "6, 8")
def matrix_product_without_a_transpose() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.keys = nn.Parameter(torch.randn(6, 8))

        def forward(self, x: Tensor) -> Any:
            query = self.encoder(x)  # <- named
            return query @ self.keys  # <- here

    return failing(Net())


@cases.located(MISMATCH, "5, 8", "5, 6")
def residual_of_another_width() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)  # <- named
            return self.decoder(h + x)  # <- here

    return failing(Net())


@cases.located(MISMATCH, "5, 8", "3, 8")
def concatenation_along_the_wrong_axis() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            first, second = self.encoder(x), self.encoder(x[:3])  # <- named
            both = torch.cat([first, second], dim=1)  # <- here
            return self.decoder(both)

    return failing(Net())


@cases.located(MISMATCH, "5, 1, 16", "8", step=3)
def linear_that_fails_in_a_later_step() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor, wide: bool = False) -> Any:
            h = self.encoder(x)
            h = torch.cat([h, h], -1) if wide else h
            return self.decoder(h)  # <- here

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    scope = gradscope.watch(net)
    try:
        with scope:
            for step in range(7):
                optimizer.zero_grad()
                net(torch.randn(5, 1, 6), wide=step == 3).square().mean().backward()
                optimizer.step()
    except RuntimeError:
        return scope
    raise AssertionError("the shapes fitted")


class Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return gradients[0] @ weight.T, gradients[0].T @ x


@cases.located(MISMATCH, "Transposed", "weight", "3, 8", "8, 3", "transpos")
def backward_that_returns_a_transpose() -> Scope:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 8)
            self.weight = nn.Parameter(torch.randn(8, 3))

        def forward(self, x: Tensor) -> Any:
            return Transposed.apply(self.fc(x), self.weight)  # <- here

    return failing(Net())


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, scale = ctx.saved_tensors
        return gradients[0] * scale, (gradients[0] * x).sum(1)


@cases.located(MISMATCH, "Scaled", "scale", "[5]", "[8]")
def backward_that_sums_the_wrong_axis() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h = Scaled.apply(h, self.scale)  # <- here
            return self.decoder(h)

    return failing(Net())


@cases.silent
def shapes_that_broadcast_on_purpose() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))
            self.gate = nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Any:
            return self.decoder(self.encoder(x) * self.scale * self.gate(x).sigmoid())

    return fit(Net())


@cases.parametrized()
def test_the_line_that_raised_is_located(case: Case) -> None:
    check(case)
