"""Programs that change weights between forward and backward, and those that change them when they may."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope

Middle = Callable[[nn.Module], object]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return output


def trained(
    net: nn.Module,
    kind: type[torch.optim.Optimizer] = torch.optim.SGD,
    *,
    before: Middle | None = None,
    between: Middle | None = None,
    after_backward: Middle | None = None,
    after: Middle | None = None,
    loss: Callable[[], Tensor] | None = None,
) -> gradscope.Scope:
    optimizer = kind(net.parameters(), lr=0.01)  # type: ignore[call-arg]
    with gradscope.watch(net) as scope:
        for _ in range(6):
            if before is not None:
                before(net)
            made = net(torch.randn(5, 6)).square().mean() if loss is None else loss()
            optimizer.zero_grad()
            if between is not None:
                between(net)
            made.backward()
            if after_backward is not None:
                after_backward(net)
            optimizer.step()
            if after is not None:
                after(net)
    return scope


def decays(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.data.mul_(0.999)


def sets_data(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.data = parameter.data * 0.999


def clamps_one(net: Any) -> None:
    net.second.weight.data.clamp_(-0.1, 0.1)


def clamps_the_first_without_grad(net: Any) -> None:
    with torch.no_grad():
        net.first.weight.clamp_(-0.1, 0.1)


def assigns_rows(net: Any) -> None:
    net.head.weight.data[0] = 0.5


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(
    ("between", "words"),
    [
        (decays, ("mul_ changes 6 parameters", "parameter.data.mul_(0.999)")),
        (sets_data, ("setting .data changes 6 parameters", "parameter.data = parameter.data * 0.999")),
        (clamps_one, ("clamp_ changes 'second.weight'", "net.second.weight.data.clamp_(-0.1, 0.1)")),
        (clamps_the_first_without_grad, ("'first.weight'", "net.first.weight.clamp_(-0.1, 0.1)")),
        (assigns_rows, ("an assignment changes 'head.weight'", "net.head.weight.data[0] = 0.5")),
    ],
)
def test_a_change_in_between_is_found_with_its_line(
    between: Middle, words: tuple[str, ...], kind: type[torch.optim.Optimizer]
) -> None:
    scope = trained(Net(), kind, between=between)
    (finding,) = scope.findings
    assert (finding.analyzer, finding.step) == ("edited-weight", 0)
    assert all(word in str(finding) for word in words), finding


class Constrained(Net):
    """Its forward changes the weight behind the layer that has used it."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
        self.second.weight.data /= self.second.weight.data.norm().clamp(min=1.0)
        output: Tensor = self.head(hidden)
        return output


def test_a_constraint_behind_the_layer_is_found() -> None:
    (finding,) = trained(Constrained()).findings
    assert (finding.analyzer, finding.sites) == ("edited-weight", ("second.weight",))


class Renormed(Net):
    """A constraint in front of the layer, as EEGNet has it."""

    def forward(self, x: Tensor) -> Tensor:
        self.second.weight.data = torch.renorm(self.second.weight.data, p=2, dim=0, maxnorm=0.3)
        return super().forward(x)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.mask: Tensor
        self.register_buffer("mask", (torch.rand(6, 6) > 0.5).float())

    def forward(self, x: Tensor) -> Tensor:
        self.linear.weight.data.mul_(self.mask)
        output: Tensor = self.linear(x)
        return output


class Codebook(nn.Module):
    """Its codes are averages, written when they have been used."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(4, 6)
        self.codes = nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        index = torch.cdist(z.detach(), self.codes.detach()).argmin(1)
        codes = F.embedding(index, self.codes).detach()
        self.codes.data[index] = 0.9 * self.codes.data[index] + 0.1 * z.detach()
        output: Tensor = self.decoder(z + (codes - z).detach())
        return output + 0 * self.codes.sum()


def perturbs_and_comes_back(net: nn.Module) -> None:
    """Sharpness-aware minimisation by hand."""
    moved = [parameter.grad * 0.01 for parameter in net.parameters() if parameter.grad is not None]
    for parameter, by in zip(net.parameters(), moved, strict=True):
        parameter.data.add_(by)
    net.zero_grad()
    net(torch.randn(5, 6)).square().mean().backward()
    for parameter, by in zip(net.parameters(), moved, strict=True):
        parameter.data.sub_(by)


def says_that_it_is_trained(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.requires_grad_(True)


def silent_programs() -> dict[str, Callable[[], gradscope.Scope]]:
    def siamese() -> gradscope.Scope:
        net = Renormed()
        return trained(net, loss=lambda: (net(torch.randn(5, 6)) - net(torch.randn(5, 6))).square().mean())

    def teacher() -> gradscope.Scope:
        net = Net()
        pair = nn.ModuleDict({"student": net, "teacher": deepcopy(net).requires_grad_(False)})

        def loss() -> Tensor:
            x = torch.randn(5, 6)
            student, slow = pair["student"](x), pair["teacher"](x)
            made: Tensor = (student - slow).square().mean() + student.square().mean()
            return made

        def average(_: nn.Module) -> None:
            for slow, fast in zip(pair["teacher"].parameters(), net.parameters(), strict=True):
                slow.data.mul_(0.99).add_(fast.data, alpha=0.01)

        return trained(pair, loss=loss, between=average)

    return {
        "clamped after the step": lambda: trained(Net(), after=clamps_one),
        "decayed before the forward": lambda: trained(Net(), before=decays),
        "decayed after the backward": lambda: trained(Net(), after_backward=decays),
        "constraint in front of the layer": lambda: trained(Renormed()),
        "the same in a siamese network": siamese,
        "masked": lambda: trained(Masked()),
        "made trainable": lambda: trained(Net(), between=says_that_it_is_trained),
        "codebook": lambda: trained(Codebook()),
        "sharpness-aware": lambda: trained(Net(), after_backward=perturbs_and_comes_back),
        "a teacher that follows": teacher,
        "read only": lambda: trained(Net(), between=lambda net: str(next(net.parameters()).data.norm().item())),
    }


@pytest.mark.parametrize("name", list(silent_programs()))
def test_silent_on(name: str) -> None:
    findings = silent_programs()[name]().findings
    assert [found for found in findings if found.severity != "note"] == []
