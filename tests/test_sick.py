"""Sick programs on real small models: the cause comes first, with its place, its step and one finding only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradscope
from gradscope.findings import Finding, Severity


@dataclass(frozen=True)
class Case:
    """A sick program and what is to be found: the analyzer, its first step, and a word of where and what."""

    program: Callable[[], gradscope.Scope]
    analyzer: str
    step: int | None
    words: tuple[str, ...]


cases: list[Case] = []


def sick(analyzer: str, *words: str, step: int | None = 0) -> Callable[[Any], Any]:
    def register(program: Callable[[], gradscope.Scope]) -> Callable[[], gradscope.Scope]:
        cases.append(Case(program, analyzer, step, words))
        return program

    return register


def fit(
    net: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer | None = None, steps: int = 8
) -> gradscope.Scope:
    made = optimizer or torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(steps):
            made.zero_grad()
            loss().backward()
            made.step()
    return scope


class Chain(nn.Module):
    """encoder, then something, then decoder."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.decoder(self.middle(self.encoder(x)))
        return output


def cut_by(middle: Callable[[Tensor], Tensor], **options: Any) -> gradscope.Scope:
    net = Chain(middle)
    return fit(net, lambda: net(torch.randn(5, 6)).square().mean(), **options)


def without_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.gelu(x)


@sick("unzeroed-gradient", "6 of 6 parameters", "test_sick.py", "zero_grad", step=1)
def no_zero_grad_with_adam() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            net(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    return scope


@sick("unzeroed-gradient", "2 of 2 parameters", step=3)
def only_the_generator_is_zeroed() -> gradscope.Scope:
    pair = {"generator": nn.Linear(4, 8), "critic": nn.Linear(8, 1)}
    generate = torch.optim.Adam(pair["generator"].parameters(), lr=1e-3)
    criticise = torch.optim.Adam(pair["critic"].parameters(), lr=1e-3)
    with gradscope.watch(pair) as scope:
        for _ in range(6):
            generate.zero_grad()
            pair["critic"](pair["generator"](torch.randn(16, 4))).mean().backward()
            generate.step()
            pair["critic"](torch.randn(16, 8)).mean().backward()
            criticise.step()
    return scope


@sick("cleared-gradient", "4 of 4 parameters", "test_sick.py")
def zero_grad_before_step() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            net(torch.randn(5, 6)).square().mean().backward()
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()
    return scope


@sick("detached-tensor", "detach", "encoder.0.weight", "test_sick.py", "4 of 8 parameters")
def detached() -> gradscope.Scope:
    return cut_by(lambda x: x.relu().detach())


@sick("detached-tensor", "data", "encoder.0.weight")
def data_attribute() -> gradscope.Scope:
    return cut_by(lambda x: x.data * 2)


@sick("detached-tensor", "no_grad", "encoder.0.weight", "test_sick.py")
def middle_without_grad() -> gradscope.Scope:
    return cut_by(without_grad)


@sick("non-differentiable-op", "argmax", "encoder.0.weight", "test_sick.py")
def argmax_in_the_path() -> gradscope.Scope:
    return cut_by(lambda x: nn.functional.one_hot(x.argmax(1), 8).float())


@sick("detached-tensor", "tensor", "encoder.0.weight")
def wrapped_anew() -> gradscope.Scope:
    return cut_by(lambda x: torch.tensor(x.tolist()))


@sick("detached-tensor", "no_grad", "encoder")
def backbone_without_grad_but_optimized() -> gradscope.Scope:
    net = nn.ModuleDict({"encoder": nn.Linear(6, 8), "head": nn.Linear(8, 2)})

    def loss() -> Tensor:
        with torch.no_grad():
            features = net["encoder"](torch.randn(5, 6))
        output: Tensor = net["head"](features)
        return output.square().mean()

    return fit(net, loss)


@sick("detached-tensor", "encoder")
def detached_in_a_run_of_one_step() -> gradscope.Scope:
    return cut_by(lambda x: x.relu().detach(), steps=1)


@sick("vanishing-gradient", "'0'", "Sigmoid")
def sigmoids() -> gradscope.Scope:
    net = nn.Sequential(*(layer for _ in range(10) for layer in (nn.Linear(32, 32), nn.Sigmoid())), nn.Linear(32, 1))
    return fit(net, lambda: (net(torch.randn(16, 32)) - 1).square().mean())


@sick("exploding-gradient")
def oversized_initialisation() -> gradscope.Scope:
    net = nn.Sequential(*(layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.ReLU())), nn.Linear(64, 1))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.0)
    return fit(net, lambda: net(torch.randn(16, 64)).abs().mean(), torch.optim.SGD(net.parameters(), lr=0.0))


@sick("oversized-update", "learning rate", "then: exploding-gradient")
def learning_rate_that_explodes() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    inputs = torch.randn(64, 6)
    goal = inputs.sum(1, keepdim=True)
    return fit(
        net, lambda: nn.functional.mse_loss(net(inputs), goal), torch.optim.SGD(net.parameters(), lr=30.0), steps=12
    )


@sick("non-finite-value", "loss", step=3)
def log_of_zero() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    count = iter(range(100))

    def loss() -> Tensor:
        sharp = 1000.0 if next(count) >= 3 else 1.0
        scores: Tensor = net(torch.randn(5, 6)) * sharp
        return -scores.softmax(1).log().mean()

    return fit(net, loss)


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (0 * x).sqrt()


@sick("non-finite-value", "backward", "0")
def square_root_at_zero() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), Root(), nn.Linear(8, 2))
    return fit(net, lambda: net(torch.randn(5, 6)).square().mean())


class Ratio(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x - x)


@sick("non-finite-value", "born in div in '1'", "test_sick.py", "return x / (x - x)")
def division_by_zero_in_the_forward() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), Ratio(), nn.Linear(8, 2))
    return fit(net, lambda: net(torch.randn(5, 6)).square().mean())


class Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradients[0] @ weight.T, gradients[0].T @ x


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = Transposed.apply(x, self.weight)
        return output


def failing(net: nn.Module) -> gradscope.Scope:
    scope = gradscope.watch(net)
    with pytest.raises(RuntimeError), scope:
        net(torch.randn(5, 6)).square().mean().backward()
    return scope


@sick("shape-mismatch", "transpos", "1", "[3, 8]", "[8, 3]")
def transposed_backward() -> gradscope.Scope:
    return failing(nn.Sequential(nn.Linear(6, 8), Custom(), nn.Linear(3, 2)))


@sick("shape-mismatch", "2", "8", "7")
def layers_that_do_not_fit() -> gradscope.Scope:
    return failing(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(7, 2)))


@sick("unused-parameter", "head.weight")
def head_that_never_runs() -> gradscope.Scope:
    net = nn.ModuleDict({"body": nn.Linear(6, 2), "head": nn.Linear(6, 2)})
    return fit(net, lambda: net["body"](torch.randn(5, 6)).square().mean())


@sick("unused-parameter", "head.weight")
def head_whose_result_is_ignored() -> gradscope.Scope:
    net = nn.ModuleDict({"body": nn.Linear(6, 6), "head": nn.Linear(6, 2), "other": nn.Linear(6, 2)})

    def loss() -> Tensor:
        features = net["body"](torch.randn(5, 6))
        net["head"](features)
        output: Tensor = net["other"](features)
        return output.square().mean()

    return fit(net, loss)


@sick("unused-parameter", "aside.weight")
def tower_whose_result_is_ignored() -> gradscope.Scope:
    net = nn.ModuleDict({"aside": nn.Linear(6, 6), "body": nn.Linear(6, 2)})

    def loss() -> Tensor:
        net["aside"](torch.randn(5, 6) / 255)
        output: Tensor = net["body"](torch.randn(5, 6) / 255)
        return output.square().mean()

    return fit(net, loss)


def text(finding: Finding) -> str:
    return f"{finding} {finding.sites}"


@pytest.mark.parametrize("case", cases, ids=lambda case: case.program.__name__)
def test_the_cause_is_named_first_and_alone(case: Case) -> None:
    torch.manual_seed(0)
    scope = case.program()
    findings = scope.findings
    assert [finding.analyzer for finding in findings] == [case.analyzer], scope.report()
    assert case.step is None or findings[0].step == case.step
    missing = [word for word in case.words if word not in text(findings[0])]
    assert not missing, f"{missing} not in\n{findings[0]}"


def test_two_independent_faults_are_both_found_errors_first() -> None:
    net = nn.ModuleDict({"body": nn.Linear(6, 2), "head": nn.Linear(6, 2)})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(6):
            net["body"](torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    assert [(finding.analyzer, finding.severity) for finding in scope.findings] == [
        ("unzeroed-gradient", Severity.ERROR),
        ("unused-parameter", Severity.NOTE),
    ]
