"""Updates that are lost in rounding or as large as the weights, in real programs, and healthy ones like them."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gradscope
from gradscope.findings import Severity

Program = Callable[[], gradscope.Scope]

STEPS = 30


class Network(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32, outputs: int = 2) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 32), nn.LayerNorm(32), nn.Linear(32, outputs)
        self.middle = nn.Linear(32, 32)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.first.weight.dtype)
        output: Tensor = self.last(functional.relu(self.norm(self.middle(functional.relu(self.first(x))))))
        return output.float()


def plain(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, outputs))


def fit(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor] | None = None,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    steps: int = STEPS,
) -> gradscope.Scope:
    with gradscope.watch(net) as scope:
        for _ in range(steps):
            optimizer.zero_grad()
            (loss or regression(net))().backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
    return scope


def regression(net: nn.Module) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        x = torch.randn(32, 6)
        return functional.mse_loss(net(x), x[:, :2] + 1)

    return loss


def classification(net: nn.Module) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        x = torch.randn(32, 6)
        return functional.cross_entropy(net(x), x[:, :4].argmax(1))

    return loss


def bfloat16_with_adam() -> gradscope.Scope:
    net = Network(torch.bfloat16)
    return fit(net, torch.optim.AdamW(net.parameters(), lr=1e-4))


def bfloat16_with_sgd() -> gradscope.Scope:
    net = plain().bfloat16()
    return fit(
        net, torch.optim.SGD(net.parameters(), lr=1e-4), lambda: net(torch.randn(32, 6).bfloat16()).square().mean()
    )


def learning_rate_of_a_billionth() -> gradscope.Scope:
    net = plain()
    return fit(net, torch.optim.SGD(net.parameters(), lr=1e-9))


class Forgetful(torch.optim.Optimizer):
    """Computes new weights, and does not write them."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p = p - group["lr"] * p.grad  # noqa: PLW2901  the fault


def optimizer_that_does_not_write() -> gradscope.Scope:
    net = Network()
    return fit(net, Forgetful(net.parameters(), lr=0.01))


def sgd_that_diverges() -> gradscope.Scope:
    net = plain()
    return fit(net, torch.optim.SGD(net.parameters(), lr=10.0), steps=10)


def sgd_that_bounces() -> gradscope.Scope:
    net = plain(4)
    return fit(net, torch.optim.SGD(net.parameters(), lr=10.0), classification(net))


def adam_with_a_rate_of_ten() -> gradscope.Scope:
    net = Network(outputs=4)
    return fit(net, torch.optim.Adam(net.parameters(), lr=10.0), classification(net))


SICK: list[tuple[Program, str, str]] = [
    (bfloat16_with_adam, "lost-update", "bfloat16"),
    (bfloat16_with_sgd, "lost-update", "autocast"),
    (learning_rate_of_a_billionth, "lost-update", "raise the learning rate (1e-09)"),
    (optimizer_that_does_not_write, "lost-update", "changes no weight at all"),
    (sgd_that_diverges, "oversized-update", "then: non-finite-value"),
    (sgd_that_bounces, "oversized-update", "lower the learning rate (10)"),
    (adam_with_a_rate_of_ten, "oversized-update", "the loss has climbed"),
]


@pytest.mark.parametrize(("program", "analyzer", "words"), SICK, ids=lambda value: getattr(value, "__name__", ""))
def test_the_cause_is_named_first_and_alone(program: Program, analyzer: str, words: str) -> None:
    torch.manual_seed(0)
    (finding,) = program().findings
    assert (finding.analyzer, finding.step) == (analyzer, 0), str(finding)
    assert words in str(finding)
    assert "test_update_programs.py" in str(finding.location)


def float32_under_autocast() -> gradscope.Scope:
    net = plain()

    def loss() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output: Tensor = net(torch.randn(32, 6))
        return output.float().square().mean()

    return fit(net, torch.optim.AdamW(net.parameters(), lr=1e-4), loss)


def bfloat16_with_a_rate_that_fits() -> gradscope.Scope:
    net = Network(torch.bfloat16)
    return fit(net, torch.optim.AdamW(net.parameters(), lr=3e-3))


def warm_up_from_a_billionth() -> gradscope.Scope:
    net = plain()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    return fit(net, optimizer, schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-9 * 1.5**step))


def warm_up_in_bfloat16() -> gradscope.Scope:
    net = Network(torch.bfloat16)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    return fit(net, optimizer, schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1000))


def end_of_a_cosine_schedule() -> gradscope.Scope:
    net = plain()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return fit(net, optimizer, schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=1e-10))


def learning_rate_of_zero() -> gradscope.Scope:
    net = plain()
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.0))


def group_that_waits_with_a_rate_of_zero() -> gradscope.Scope:
    net = plain()
    groups: list[dict[str, Any]] = [{"params": net[:4].parameters(), "lr": 0.0}, {"params": net[4].parameters()}]
    return fit(net, torch.optim.SGD(groups, lr=0.01))


class RoundingAtRandom(torch.optim.Optimizer):
    """SGD for bfloat16 that rounds up as often as the rest is large."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                exact = p.float() - group["lr"] * p.grad.float()
                noise = torch.randint(2**16, exact.shape, dtype=torch.int32)
                p.copy_(((exact.view(torch.int32) + noise) & -(2**16)).view(torch.float32))


def stochastic_rounding() -> gradscope.Scope:
    net = Network(torch.bfloat16)
    return fit(net, RoundingAtRandom(net.parameters(), lr=1e-3))


class WithCopies(torch.optim.Optimizer):
    """SGD that keeps its own copies in float32."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.copies = {p: p.detach().float() for group in self.param_groups for p in group["params"]}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.copies[p].sub_(p.grad.float(), alpha=group["lr"]))


def copies_in_float32() -> gradscope.Scope:
    net = Network(torch.bfloat16)
    return fit(net, WithCopies(net.parameters(), lr=3e-3))


def converged() -> gradscope.Scope:
    net = plain()
    x = torch.randn(32, 6)
    goal = net(x).detach() + 1e-8
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.01), lambda: functional.mse_loss(net(x), goal))


def large_first_steps_of_adam() -> gradscope.Scope:
    net = plain(4)
    return fit(net, torch.optim.Adam(net.parameters(), lr=0.1), classification(net))


def linear_model_with_a_large_rate() -> gradscope.Scope:
    net = nn.Linear(6, 2)
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.5))


def head_that_begins_at_zero() -> gradscope.Scope:
    net = plain(4)
    for parameter in net[4].parameters():
        nn.init.zeros_(parameter)
    for parameter in net[:4].parameters():
        parameter.requires_grad_(False)
    return fit(net, torch.optim.Adam(net[4].parameters(), lr=0.05), classification(net))


def warm_restarts() -> gradscope.Scope:
    net = plain(4)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 8)
    return fit(net, optimizer, classification(net), schedule)


HEALTHY: list[Program] = [
    float32_under_autocast,
    bfloat16_with_a_rate_that_fits,
    warm_up_from_a_billionth,
    warm_up_in_bfloat16,
    end_of_a_cosine_schedule,
    learning_rate_of_zero,
    group_that_waits_with_a_rate_of_zero,
    stochastic_rounding,
    copies_in_float32,
    converged,
    large_first_steps_of_adam,
    linear_model_with_a_large_rate,
    head_that_begins_at_zero,
    warm_restarts,
]


@pytest.mark.parametrize("program", HEALTHY, ids=lambda program: program.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_program_raises_no_alarm(program: Program, seed: int) -> None:
    torch.manual_seed(seed)
    alarms = [str(finding) for finding in program().findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)


def test_updates_are_not_blamed_for_the_logarithm_of_zero() -> None:
    torch.manual_seed(0)
    net = plain(4)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    count = iter(range(100))

    def loss() -> Tensor:
        scores = net(torch.randn(32, 6)) * (1e4 if next(count) >= 4 else 1.0)
        return -scores.softmax(1).log().mean()

    (finding,) = fit(net, optimizer, loss, steps=8).findings
    assert finding.analyzer == "non-finite-value"
