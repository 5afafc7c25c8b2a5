"""NaN and Inf: the line of the operation they come from is named."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope import Scope

BAD = "non-finite-value"

cases = Cases()


class Net(nn.Module):
    """Three layers, the last of so many outputs."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(torch.tanh(self.fc1(x)))


@cases.located(BAD, "sqrt", "eps")
def square_root_of_zero_in_the_loss() -> Scope:
    net = Net()

    def loss() -> Any:
        y = net(torch.randn(5, 6))
        distance = (y - y.detach()).pow(2).sum(1).sqrt()  # <- here
        return distance.mean() + y.square().mean()

    return fit(net, loss)


@cases.located(BAD, "sqrt")
def norm_by_hand_at_zero() -> Scope:
    net = Net()

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return torch.sqrt(((a - b) ** 2).sum(-1))  # <- here

    def loss() -> Any:
        embedded = net(torch.randn(5, 6))
        return distance(embedded, embedded[:1]).mean()

    return fit(net, loss)


@cases.located(BAD, "log")
def logarithm_of_zero() -> Scope:
    net = Net()

    def loss() -> Any:
        chances = torch.softmax(net(torch.randn(5, 6)) * 1e4, 1)
        entropy = (chances * chances.log()).sum(1)  # <- here
        return entropy.mean()

    return fit(net, loss)


@cases.located(BAD, "log", "clamp")
def logarithm_of_a_saturated_sigmoid() -> Scope:
    net = Net(1)

    def loss() -> Any:
        p = torch.sigmoid(net(torch.randn(5, 6)) * 1e4)
        y = torch.rand(5, 1).round()
        return -(y * torch.log(p) + (1 - y)).mean()  # <- here

    return fit(net, loss)


@cases.located(BAD, "div")
def division_by_zero() -> Scope:
    net = Net()

    def loss() -> Any:
        y = net(torch.randn(5, 6))
        mask = torch.zeros(5, 1)
        return (y * mask).sum() / mask.sum()  # <- here

    return fit(net, loss)


@cases.located(BAD, "mul")
def zero_times_infinity() -> Scope:
    net = Net()

    def loss() -> Any:
        y = net(torch.randn(5, 6))
        bias = torch.zeros(5, 3).masked_fill(torch.eye(5, 3).bool(), float("-inf"))
        return (y * (1 + 0 * bias)).mean()  # <- here

    return fit(net, loss)


@cases.located(BAD, "mul", "loss")
def nan_in_the_value_of_the_loss_alone() -> Scope:
    net = Net()

    def loss() -> Any:
        y = net(torch.randn(5, 6))
        penalty = torch.tensor(float("inf")) * 0  # <- here
        return y.square().mean() + penalty

    return fit(net, loss)


@cases.located(BAD, "where", "sqrt")
def where_trap() -> Scope:
    net = Net()

    def loss() -> Any:
        gap = net(torch.randn(5, 6)).square() * torch.eye(5, 3)
        root = gap.sqrt()  # <- here
        return torch.where(gap > 0, root, torch.zeros_like(gap)).mean()

    return fit(net, loss)


@cases.located(BAD, "where", "log")
def where_trap_in_a_helper() -> Scope:
    def safe_log(x: Tensor) -> Tensor:
        return torch.where(x > 0, x.log(), 0.0)  # <- here

    net = Net()
    return fit(net, lambda: safe_log(net(torch.randn(5, 6)) * torch.eye(5, 3)).mean())


@cases.located(BAD, "acos", "clamp")
def arc_cosine_of_one() -> Scope:
    net = Net()

    def loss() -> Any:
        y = F.normalize(net(torch.randn(5, 6)), dim=1)
        similarity = (y * y).sum(1).clamp(-1, 1).round(decimals=3)
        angle = torch.acos(similarity + 0 * y.sum(1))  # <- here
        return angle.mean()

    return fit(net, loss)


@cases.located(BAD, "exp")
def overflow_of_exp() -> Scope:
    net = Net()

    def loss() -> Any:
        scores = net(torch.randn(5, 6)) * 1000
        weights = scores.abs().exp()  # <- here
        return (weights / weights.sum(1, keepdim=True)).square().mean()

    return fit(net, loss)


@cases.located(BAD, "pow")
def fractional_power_of_a_negative_number() -> Scope:
    class Curve(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h = h.pow(0.5)  # <- here
            return self.decoder(h)

    return fit(Curve())


@cases.located(BAD, "'ratio'", "div")
def ratio_in_a_modules_forward() -> Scope:
    class Ratio(nn.Module):
        def forward(self, x: Tensor) -> Any:
            spread = x.std(0, correction=0)
            return (x - x.mean(0)) / spread  # <- here

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(6, 8)
            self.ratio = Ratio()
            self.fc2 = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            return self.fc2(self.ratio(self.fc1(x)))

    net = Whole()
    return fit(net, lambda: net(torch.ones(5, 6)).square().mean())


@cases.located(BAD, "softmax")
def attention_row_without_an_allowed_position() -> Scope:
    class Attention(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            allowed = torch.ones(5, 5).tril(-1).bool()
            scores = (h @ h.T).masked_fill(~allowed, float("-inf"))
            weights = scores.softmax(-1)  # <- here
            return self.decoder(weights @ h)

    return fit(Attention())


@cases.located(BAD, "log", step=3)
def logarithm_of_zero_at_step_3() -> Scope:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(7):
            sharpness = 1e4 if step == 3 else 1.0
            chances = (net(torch.randn(5, 6)) * sharpness).softmax(1)
            loss = -chances.log().mean()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(BAD, "sqrt", step=3)
def square_root_of_zero_at_step_3() -> Scope:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    with gradscope.watch(net) as scope:
        for step in range(8):
            a = torch.randn(5, 6)
            b = a.clone() if step == 3 else torch.randn(5, 6)
            gap = net(a) - net(b)
            loss = gap.square().sum(1).sqrt().mean()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(BAD, "div", step=3)
def empty_mask_at_step_3() -> Scope:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(7):
            valid = torch.zeros(5) if step == 3 else torch.ones(5)
            error = (net(torch.randn(5, 6)) - 1).square().mean(1)
            loss = (error * valid).sum() / valid.sum()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(BAD, "log", step=5)
def logarithm_between_two_modules_at_step_5() -> Scope:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, shift: float) -> Any:
            h = self.a(x).abs() + shift
            h = torch.log(h)  # <- here
            return self.b(h)

    net, shifts = Between(), iter([0.0] * 5 + [-10.0] * 5)
    return fit(net, lambda: net(torch.randn(5, 6), next(shifts)).square().mean())


@cases.located(BAD, "log", step=40)
def logarithm_of_zero_at_step_40() -> Scope:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(45):
            x = torch.randn(5, 6)
            sharpness = 1e4 if step == 40 else 1.0
            chances = (net(x) * sharpness).softmax(1)
            loss = -chances.log().mean()  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.parametrized()
def test_the_origin_is_located(case: Case) -> None:
    check(case)
