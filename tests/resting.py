"""Loops that come to rest, and what became of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks

import gradscope
from gradscope.scope import Scope

SELDOM = 10**6
FAULT = 40


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def at_rest() -> bool:
    return not _global_forward_hooks


def loss_of(model: nn.Module, factor: float = 1.0) -> Tensor:
    loss: Tensor = model(factor * torch.randn(5, 6)).square().mean()
    return loss


Between = Callable[[int, nn.Module, torch.optim.Optimizer], Any]


def nothing(step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Neither before nor after a backward does anything else happen."""


def run(
    steps: int,
    *,
    zero: Callable[[int, torch.optim.Optimizer], Any] = lambda _, optimizer: optimizer.zero_grad(),
    between: Between = nothing,
    factor: Callable[[int], float] = lambda _: 1.0,
    backwards: int = 1,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    **options: Any,
) -> tuple[Scope, list[bool], nn.Sequential]:
    """A loop that is watched with the first step observed; whether it was at rest after each step."""
    model = network()
    stepper = optimizer(model.parameters(), lr=0.01)
    resting = []
    with gradscope.watch(model, **{"every": SELDOM, **options}) as scope:
        for step in range(steps):
            zero(step, stepper)
            for _ in range(backwards):
                loss_of(model, factor(step)).backward()
            between(step, model, stepper)
            stepper.step()
            resting.append(at_rest())
    return scope, resting, model


def found(scope: Scope) -> dict[str, int]:
    return {finding.analyzer: finding.step for finding in scope.findings}
