"""Layers whose units stay equal in real programs, and healthy ones that begin with constants, too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gradscope
from gradscope.findings import Severity

Program = Callable[[], gradscope.Scope]


def fit(
    net: nn.Module, optimizer: torch.optim.Optimizer, forward: Callable[[Tensor], Tensor] | None = None
) -> gradscope.Scope:
    with gradscope.watch(net) as scope:
        for _ in range(20):
            x = torch.randn(16, 6)
            optimizer.zero_grad()
            functional.mse_loss((forward or net)(x), x[:, :2] + 1).backward()
            optimizer.step()
    return scope


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 2))


def constant_everywhere() -> gradscope.Scope:
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.05))


def constant_in_one_layer_with_adam() -> gradscope.Scope:
    net = network()
    for index in (2, 4):
        nn.init.ones_(net[index].weight)
        nn.init.zeros_(net[index].bias)
    return fit(net, torch.optim.Adam(net.parameters(), lr=0.01))


class Dense(nn.Module):
    """A layer by hand, whose units are columns."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((inputs, outputs), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def columns_of_a_layer_by_hand() -> gradscope.Scope:
    net = nn.Sequential(Dense(6, 12), nn.SiLU(), Dense(12, 2))
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))


@pytest.mark.parametrize(
    ("program", "site"),
    [
        (constant_everywhere, "0.weight"),
        (constant_in_one_layer_with_adam, "2.weight"),
        (columns_of_a_layer_by_hand, "0.weight"),
    ],
)
def test_the_cause_is_named_first_and_alone(program: Program, site: str) -> None:
    torch.manual_seed(0)
    (finding,) = program().findings
    assert (finding.analyzer, finding.severity, finding.step) == ("symmetric-units", Severity.ERROR, 0)
    assert site in finding.sites
    assert "the 12 " in finding.message
    assert ("columns" in finding.message) is (program is columns_of_a_layer_by_hand)


def head_of_zeros() -> gradscope.Scope:
    net = network()
    nn.init.zeros_(net[4].weight)
    return fit(net, torch.optim.Adam(net.parameters(), lr=0.01))


def constant_layer_between_random_ones() -> gradscope.Scope:
    net = network()
    nn.init.ones_(net[2].weight)
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.01))


def constant_layer_that_is_frozen() -> gradscope.Scope:
    net = network()
    nn.init.ones_(net[0].weight).requires_grad_(False)
    return fit(net, torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.01))


def scales_of_ones_with_steps_of_one_size() -> gradscope.Scope:
    """Each scale takes the same steps, because only the sign of its gradient counts."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.body = nn.Parameter(torch.ones(1, 6)), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.body(x * self.scale)
            return output

    net = Scaled()
    return fit(net, torch.optim.Rprop(net.parameters(), lr=1e-3, step_sizes=(1e-3, 1e-3)))


def low_rank_adapter() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 2, bias=False))
    nn.init.zeros_(net[1].weight)
    return fit(net, torch.optim.SGD(net.parameters(), lr=0.05))


def embedding_of_zeros() -> gradscope.Scope:
    net = nn.ModuleDict({"words": nn.Embedding(50, 6), "head": nn.Linear(6, 2)})
    nn.init.zeros_(net["words"].weight)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    return fit(net, optimizer, lambda x: net["head"](net["words"](torch.randint(50, (len(x),)))))


HEALTHY: list[Program] = [
    head_of_zeros,
    constant_layer_between_random_ones,
    constant_layer_that_is_frozen,
    scales_of_ones_with_steps_of_one_size,
    low_rank_adapter,
    embedding_of_zeros,
]


@pytest.mark.parametrize("program", HEALTHY, ids=lambda program: program.__name__)
def test_a_healthy_program_raises_no_alarm(program: Program) -> None:
    torch.manual_seed(0)
    alarms = [str(finding) for finding in program().findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)
