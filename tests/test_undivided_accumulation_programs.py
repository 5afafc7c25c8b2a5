"""Programs that add up the means of micro-batches, and those that divide, or mean something else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope.findings import Severity

Losses = Callable[[nn.Module], Tensor]
PARTS = 4


class Accumulating:
    """A trainer with its own loss."""

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.net, self.optimizer, self.criterion = net, optimizer, nn.CrossEntropyLoss()

    def run(self) -> None:
        for step in range(6 * PARTS):
            loss = self.criterion(self.net(torch.randn(5, 6)), torch.randint(3, (5,)))
            loss.backward()
            if (step + 1) % PARTS == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()


def script(loss: Losses, kind: type[torch.optim.Optimizer] = torch.optim.SGD, parts: int = PARTS) -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = kind(net.parameters(), lr=0.01)  # type: ignore[call-arg]
    with gradscope.watch(net) as scope:
        for _ in range(6):
            optimizer.zero_grad()
            for _ in range(parts):
                loss(net).backward()
            optimizer.step()
    return scope


def mean(net: nn.Module) -> Tensor:
    return F.cross_entropy(net(torch.randn(5, 6)), torch.randint(3, (5,)))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_it_is_a_note_with_the_line_of_the_loss(kind: type[torch.optim.Optimizer]) -> None:
    (finding,) = script(mean, kind).findings
    assert (finding.analyzer, finding.severity, finding.step) == ("undivided-accumulation", Severity.NOTE, 0)
    assert "return F.cross_entropy(" in str(finding)


def test_it_is_found_in_a_trainer() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with gradscope.watch(net) as scope:
        Accumulating(net, torch.optim.SGD(net.parameters(), lr=0.01)).run()
    (finding,) = scope.findings
    assert (finding.analyzer, finding.step) == ("undivided-accumulation", 0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda net: mean(net) / PARTS,
        lambda net: mean(net) * 0.25,
        lambda net: F.cross_entropy(net(torch.randn(5, 6)), torch.randint(3, (5,)), reduction="sum"),
        lambda net: F.cross_entropy(net(torch.randn(5, 6)), torch.randint(3, (5,)), reduction="sum") / 20,
        lambda net: net(torch.randn(5, 6)).square().mean() + 0.1 * net(torch.randn(5, 6)).abs().mean(),
    ],
)
def test_silent_on_what_was_divided_weighted_or_summed(loss: Losses) -> None:
    assert script(loss).findings == ()


def test_silent_on_one_and_two_losses() -> None:
    assert script(mean, parts=1).findings == ()
    assert script(mean, parts=2).findings == ()
