"""Gradients that become exactly zero in real programs, and healthy ones that look like them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gradscope
from gradscope.findings import Severity

Program = Callable[[], gradscope.Scope]

STEPS = 24


def fit(
    net: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer | None = None, steps: int = STEPS
) -> gradscope.Scope:
    made = optimizer or torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(steps):
            made.zero_grad()
            loss().backward()
            made.step()
    return scope


def regression(net: nn.Module, scale: float = 1.0) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        x = torch.randn(16, 6)
        return functional.mse_loss(net(scale * x), x[:, :2] + 1)

    return loss


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear, down: float, up: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(down * torch.randn(4, base.in_features))
        self.up = nn.Parameter(up * torch.randn(base.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base(x) + x @ self.down.T @ self.up.T
        return output


def adapted(down: float, up: float) -> nn.Module:
    return nn.Sequential(LoRA(nn.Linear(6, 8), down, up), nn.GELU(), LoRA(nn.Linear(8, 8), down, up), nn.Linear(8, 2))


class Gated(nn.Module):
    def __init__(self, *, gate: float, zero_last: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        self.gate, self.out = nn.Parameter(torch.tensor(gate)), nn.Linear(6, 2)
        if zero_last:
            nn.init.zeros_(self.body[2].weight)
            nn.init.zeros_(self.body[2].bias)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.out(x + self.gate * self.body(x))
        return output


class Layers(nn.Module):
    """Three layers with a function between them, called as a function."""

    def __init__(self, between: Callable[[Tensor], Tensor], bias: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.between = between
        with torch.no_grad():
            self.second.bias += bias
            self.first.weight *= scale

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.between(self.second(self.between(self.first(x)))))
        return output


def lora_of_zeros() -> gradscope.Scope:
    net = adapted(0.0, 0.0)
    return fit(net, regression(net), torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-3))


def gate_and_last_layer_of_zeros() -> gradscope.Scope:
    net = Gated(gate=0.0, zero_last=True)
    return fit(net, regression(net))


def network_of_zeros() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return fit(net, regression(net), torch.optim.Adam(net.parameters()))


def embeddings_of_zeros() -> gradscope.Scope:
    net = nn.ModuleDict({"user": nn.Embedding(9, 4), "item": nn.Embedding(9, 4), "bias": nn.Linear(1, 1)})
    nn.init.zeros_(net["user"].weight)
    nn.init.zeros_(net["item"].weight)

    def loss() -> Tensor:
        pairs = torch.randint(9, (2, 16))
        scores = (net["user"](pairs[0]) * net["item"](pairs[1])).sum(1) + net["bias"](torch.ones(16, 1))[:, 0]
        return functional.mse_loss(scores, torch.ones(16))

    return fit(net, loss)


def attention_of_zeros() -> gradscope.Scope:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.out = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 2)
            nn.init.zeros_(self.attend.in_proj_weight)
            nn.init.zeros_(self.attend.out_proj.weight)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.out(x + self.attend(x, x, x, need_weights=False)[0])
            return output

    net = Attending()
    return fit(net, lambda: net(torch.randn(4, 5, 6)).square().mean())


def negative_biases() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.constant_(net[2].bias, -20)
    return fit(net, regression(net), torch.optim.Adam(net.parameters()))


def negative_biases_and_a_function() -> gradscope.Scope:
    net = Layers(torch.relu, bias=-20)
    return fit(net, regression(net))


def rectified_output() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2), nn.ReLU())
    nn.init.constant_(net[2].bias, -20)
    return fit(net, regression(net))


def units_that_die_on_the_way() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net, every=1) as scope:
        for step in range(50):
            optimizer.zero_grad()
            regression(net)().backward()
            optimizer.step()
            if step == 4:
                with torch.no_grad():
                    net[0].bias -= 50
    return scope


def saturated_by_weights() -> gradscope.Scope:
    net = Layers(torch.tanh, scale=100)
    return fit(net, regression(net))


def saturated_by_inputs() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 16), nn.Sigmoid(), nn.Linear(16, 2))
    return fit(net, regression(net, 500), torch.optim.Adam(net.parameters()))


def saturated_by_biases() -> gradscope.Scope:
    net = Layers(torch.sigmoid, bias=-30)
    return fit(net, regression(net))


def clamped_for_good() -> gradscope.Scope:
    net = Layers(lambda x: x.clamp(-1, 1), bias=20)
    return fit(net, regression(net))


SICK: list[tuple[Program, str, int, str]] = [
    (lora_of_zeros, "zero-gradient", 0, "4 of 10 parameters"),
    (gate_and_last_layer_of_zeros, "zero-gradient", 0, "mul multiplies zeros by zeros"),
    (network_of_zeros, "zero-gradient", 0, "linear in '2'"),
    (embeddings_of_zeros, "zero-gradient", 0, "'user.weight' and 'item.weight'"),
    (attention_of_zeros, "zero-gradient", 0, "attend"),
    (negative_biases, "dead-units", 0, "relu in '3'"),
    (negative_biases_and_a_function, "dead-units", 0, "test_stall_programs.py"),
    (rectified_output, "dead-units", 0, "relu in '3'"),
    (units_that_die_on_the_way, "dead-units", 5, "relu in '1'"),
    (saturated_by_weights, "saturated-activation", 0, "tanh after 'first'"),
    (saturated_by_inputs, "saturated-activation", 0, "sigmoid after '0'"),
    (saturated_by_biases, "saturated-activation", 0, "sigmoid"),
    (clamped_for_good, "saturated-activation", 0, "clamp lets no gradient through"),
]


@pytest.mark.parametrize(
    ("program", "analyzer", "step", "words"), SICK, ids=lambda value: getattr(value, "__name__", "")
)
def test_the_cause_is_named_first_and_alone(program: Program, analyzer: str, step: int, words: str) -> None:
    torch.manual_seed(0)
    (finding,) = program().findings
    assert (finding.analyzer, finding.step) == (analyzer, step), str(finding)
    assert words in str(finding)


def lora_with_b_zero() -> gradscope.Scope:
    net = adapted(1.0, 0.0)
    return fit(net, regression(net))


def rezero() -> gradscope.Scope:
    net = Gated(gate=0.0, zero_last=False)
    return fit(net, regression(net))


def last_layer_of_the_branch_at_zero() -> gradscope.Scope:
    net = Gated(gate=1.0, zero_last=True)
    return fit(net, regression(net))


def gates_behind_a_head_of_zeros() -> gradscope.Scope:
    """As adaLN-zero: the head is zero, and so are the gates, which move one step after the other."""
    net = Gated(gate=0.0, zero_last=False)
    nn.init.zeros_(net.out.weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            regression(net)().backward()
            optimizer.step()
            schedule.step()
    return scope


def head_of_zeros_while_the_rate_is_zero() -> gradscope.Scope:
    net = Gated(gate=0.0, zero_last=False)
    nn.init.zeros_(net.out.weight)
    return fit(net, regression(net), torch.optim.SGD(net.parameters(), lr=0.0), steps=8)


def linear_head_that_starts_at_zero() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.zeros_(net[2].weight)
    return fit(net, regression(net))


def attention_to_a_single_key() -> gradscope.Scope:
    """Queries and keys cannot learn anything where there is one key, which is no fault of the model."""
    net = nn.ModuleDict({name: nn.Linear(6, 6) for name in ("query", "key", "value", "out")})

    def loss() -> Tensor:
        x, memory = torch.randn(4, 5, 6), torch.randn(4, 1, 6)
        weights = (net["query"](x) @ net["key"](memory).transpose(1, 2)).softmax(-1)
        output: Tensor = net["out"](weights @ net["value"](memory))
        return output.square().mean()

    return fit(net, loss)


def ranking_whose_bias_cancels_out() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.zeros_(net[2].bias)
    return fit(net, lambda: functional.softplus(net(torch.randn(16, 6)) - net(torch.randn(16, 6))).mean())


def weight_of_an_auxiliary_loss_that_is_still_zero() -> gradscope.Scope:
    net = nn.ModuleDict({"body": nn.Linear(6, 6), "aux": nn.Linear(6, 2), "head": nn.Linear(6, 2)})

    def loss() -> Tensor:
        x = net["body"](torch.randn(8, 6))
        main: Tensor = net["head"](x).square().mean()
        return main + 0.0 * net["aux"](x).square().mean()

    return fit(net, loss)


def zeros_for_distributed_training() -> gradscope.Scope:
    net = nn.ModuleDict({"used": nn.Linear(6, 2), "unused": nn.Linear(6, 2)})

    def loss() -> Tensor:
        idle = sum((p.sum() for p in net["unused"].parameters()), torch.zeros(()))
        output: Tensor = net["used"](torch.randn(8, 6))
        return output.square().mean() + 0 * idle

    return fit(net, loss)


def condition_of_zeros() -> gradscope.Scope:
    net = nn.ModuleDict({"body": nn.Linear(6, 6), "condition": nn.Linear(3, 6, bias=False), "head": nn.Linear(6, 2)})
    nn.init.zeros_(net["condition"].weight)
    return fit(
        net,
        lambda: net["head"](net["body"](torch.randn(8, 6)) + net["condition"](torch.zeros(8, 3))).square().mean(),
    )


def experts_without_tokens() -> gradscope.Scope:
    net = nn.ModuleDict({"gate": nn.Linear(6, 3), "experts": nn.ModuleList(nn.Linear(6, 6) for _ in range(3))})

    def loss() -> Tensor:
        x = torch.randn(8, 6)
        weights = net["gate"](x).softmax(-1)
        chosen = weights[:, :2].argmax(-1)
        parts = [
            torch.relu(expert(x[chosen == i])) * weights[chosen == i, i : i + 1]
            for i, expert in enumerate(net["experts"])
        ]
        return torch.cat(parts).square().mean()

    return fit(net, loss)


def sparse_features() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2))
    nn.init.constant_(net[0].bias, -1.0)
    return fit(net, regression(net))


def hinge_that_is_satisfied() -> gradscope.Scope:
    class Ranking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.hinge = nn.Linear(6, 1), nn.ReLU()

        def forward(self, better: Tensor, worse: Tensor) -> Tensor:
            output: Tensor = self.hinge(self.score(worse) - self.score(better) - 50).mean()
            return output

    net = Ranking()
    return fit(net, lambda: net(torch.randn(8, 6), torch.randn(8, 6)))


def confident_classifier() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    nn.init.constant_(net[2].bias, 40.0)
    return fit(net, lambda: functional.binary_cross_entropy(net(torch.randn(8, 6)), torch.ones(8, 1)))


def closed_gates() -> gradscope.Scope:
    net = nn.ModuleDict({"gate": nn.Linear(6, 6), "value": nn.Linear(6, 6), "out": nn.Linear(6, 2)})
    nn.init.constant_(net["gate"].bias, -5.0)

    def loss() -> Tensor:
        x = torch.randn(8, 6)
        output: Tensor = net["out"](torch.sigmoid(net["gate"](x)) * net["value"](x) + x)
        return output.square().mean()

    return fit(net, loss)


def tanh_network() -> gradscope.Scope:
    net = Layers(torch.tanh)
    return fit(net, regression(net, 5), torch.optim.Adam(net.parameters(), lr=1e-2))


HEALTHY: list[Program] = [
    lora_with_b_zero,
    rezero,
    last_layer_of_the_branch_at_zero,
    gates_behind_a_head_of_zeros,
    head_of_zeros_while_the_rate_is_zero,
    linear_head_that_starts_at_zero,
    attention_to_a_single_key,
    ranking_whose_bias_cancels_out,
    weight_of_an_auxiliary_loss_that_is_still_zero,
    zeros_for_distributed_training,
    condition_of_zeros,
    experts_without_tokens,
    sparse_features,
    hinge_that_is_satisfied,
    confident_classifier,
    closed_gates,
    tanh_network,
]


@pytest.mark.parametrize("program", HEALTHY, ids=lambda program: program.__name__)
def test_a_healthy_program_raises_no_alarm(program: Program) -> None:
    torch.manual_seed(0)
    alarms = [str(finding) for finding in program().findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)


def critic() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def loss() -> Tensor:
        true, fake = torch.randn(16, 6) + 1, torch.randn(16, 6)
        mixed = (true + fake).div(2).requires_grad_()
        (slope,) = torch.autograd.grad(net(mixed).sum(), mixed, create_graph=True)
        output: Tensor = net(fake).mean() - net(true).mean() + 10 * (slope.norm(dim=1) - 1).square().mean()
        return output

    return fit(net, loss)


@pytest.mark.parametrize("program", [ranking_whose_bias_cancels_out, critic], ids=lambda program: program.__name__)
def test_a_bias_whose_gradients_cancel_is_not_even_a_note(program: Program) -> None:
    torch.manual_seed(0)
    scope = program()
    assert not scope.findings
    assert scope.report().steps == STEPS


def test_zeros_that_nothing_explains_are_a_note() -> None:
    (finding,) = weight_of_an_auxiliary_loss_that_is_still_zero().findings
    assert (finding.analyzer, finding.severity) == ("zero-gradient", Severity.NOTE)
    assert finding.sites == ("aux.weight", "aux.bias")
    assert "mul passes on only zeros" in finding.evidence
    assert finding.location is not None
    assert finding.location.source.startswith("return main + 0.0 * net")


class ByHand(torch.optim.Optimizer):
    """It runs the forward itself, so that a trace which begins in there sees what it writes afterwards."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"])
        return loss


def test_what_an_optimizer_writes_is_not_the_programs_own_doing() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.constant_(net[0].bias, -50.0)
    optimizer = ByHand(net.parameters(), lr=0.01)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(torch.randn(5, 6)).square().sum() + net[2].weight.square().sum()
        loss.backward()
        return loss

    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.step(closure)
    assert [finding.analyzer for finding in scope.findings] == ["dead-units"]
