"""Losses that do not fit what they are given: broadcast targets, activations applied twice or not at all."""

from typing import Any

import pytest
import torch
from located.harness import Case, Cases, check, fit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope import Scope

BROADCAST = "broadcast-loss"
MISMATCH = "loss-input-mismatch"
SHAPES = ("(5, 1)", "(5,)", "(5, 5)")

cases = Cases()


class Net(nn.Module):
    """Two layers; as many outputs as are asked for."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(torch.relu(self.fc1(x)))


@cases.located(BROADCAST, *SHAPES, "mse_loss", "'fc2'", "squeeze")
def mse_loss() -> Scope:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            x, y = torch.randn(5, 6), torch.randn(5)
            optimizer.zero_grad()
            loss = F.mse_loss(net(x), y)  # <- here
            loss.backward()
            optimizer.step()
    return scope


@cases.located(BROADCAST, *SHAPES)
def mse_loss_module() -> Scope:
    net, criterion = Net(), nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters())
    inputs, targets = torch.randn(20, 6), torch.randn(20)
    with gradscope.watch(net) as scope:
        for start in (0, 5, 10, 15, 0, 5):
            x, y = inputs[start : start + 5], targets[start : start + 5]
            output = net(x)
            loss = criterion(output, y)  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(BROADCAST, *SHAPES)
def l1_loss() -> Scope:
    net = Net()

    def loss() -> Tensor:
        return F.l1_loss(net(torch.randn(5, 6)), torch.randn(5))  # <- here

    return fit(net, loss)


@cases.located(BROADCAST, *SHAPES, "smooth_l1")
def smooth_l1_loss() -> Scope:
    net, criterion = Net(), nn.SmoothL1Loss()

    def loss() -> Any:
        return criterion(net(torch.randn(5, 6)), torch.randn(5))  # <- here

    return fit(net, loss)


@cases.located(BROADCAST, *SHAPES, "huber")
def huber_loss_with_the_prediction_flat() -> Scope:
    net = Net()

    def loss() -> Tensor:
        prediction = net(torch.randn(5, 6)).squeeze(-1)
        goal = torch.randn(5, 1)
        return F.huber_loss(prediction, goal)  # <- here

    return fit(net, loss)


@cases.located(BROADCAST, *SHAPES, "'fc2'")
def squares_by_hand() -> Scope:
    net = Net()

    def loss() -> Any:
        y = torch.randn(5)
        prediction = net(torch.randn(5, 6))
        return ((prediction - y) ** 2).mean()  # <- here

    return fit(net, loss)


@cases.located(BROADCAST, *SHAPES)
def absolute_difference_by_hand() -> Scope:
    net = Net()
    y = torch.randn(5)

    def loss() -> Any:
        error = y - net(torch.randn(5, 6))  # <- here
        return error.abs().sum() / len(y)

    return fit(net, loss)


@cases.located(BROADCAST, "(4, 4, 1)", "(4, 4)")
def squares_over_a_sequence() -> Scope:
    net = Net()

    def loss() -> Any:
        goal = torch.randn(4, 4)
        error = net(torch.randn(4, 4, 6)) - goal  # <- here
        return error.pow(2).mean()

    return fit(net, loss)


@cases.located(BROADCAST, "(5, 1)", "(5,)", "gaussian_nll")
def gaussian_nll_loss() -> Scope:
    net = Net(2)

    def loss() -> Tensor:
        mean, spread = net(torch.randn(5, 6)).chunk(2, 1)
        return F.gaussian_nll_loss(mean, torch.randn(5), spread.exp())  # <- here

    return fit(net, loss)


@cases.located(BROADCAST, *SHAPES)
def temporal_difference_by_hand() -> Scope:
    net = Net()

    def loss() -> Any:
        value = net(torch.randn(5, 6))
        with torch.no_grad():
            goal = torch.randn(5) + 0.9 * net(torch.randn(5, 6)).squeeze(1)  # <- named
        return (goal - value).pow(2).mean()  # <- here

    return fit(net, loss)


@cases.located(BROADCAST, *SHAPES)
def advantage_of_another_shape() -> Scope:
    net, critic = Net(3), Net()

    def loss() -> Any:
        state, reward = torch.randn(5, 6), torch.randn(5, 1)
        policy = torch.distributions.Categorical(logits=net(state))
        value = critic(state)
        advantage = (reward - value).detach()
        scores = policy.log_prob(policy.sample()) * advantage  # <- here
        return F.mse_loss(value, reward) - scores.mean()

    return fit(nn.ModuleList([net, critic]), loss)


@cases.located(MISMATCH, "softmax", "cross_entropy", "logits")
def softmax_in_forward_and_cross_entropy() -> Scope:
    class Classifier(Net):
        def forward(self, x: Tensor) -> Any:
            h = torch.relu(self.fc1(x))
            return F.softmax(self.fc2(h), dim=1)  # <- named

    net = Classifier(3)

    def loss() -> Tensor:
        return F.cross_entropy(net(torch.randn(5, 6)), torch.randint(3, (5,)))  # <- here

    return fit(net, loss)


@cases.located(MISMATCH, "softmax", "'2'", "cross_entropy")
def softmax_layer_and_cross_entropy_module() -> Scope:
    net = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3), nn.Softmax(dim=-1))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            x, y = torch.randn(5, 6), torch.randint(3, (5,))
            optimizer.zero_grad()
            loss = criterion(net(x), y)  # <- here
            loss.backward()
            optimizer.step()
    return scope


@cases.located(MISMATCH, "softmax", "cross_entropy")
def softmax_in_the_loop() -> Scope:
    net = Net(3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            chances = net(torch.randn(5, 6)).softmax(1)  # <- named
            loss = F.cross_entropy(chances, torch.randint(3, (5,)), label_smoothing=0.1)  # <- here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.located(MISMATCH, "softmax", "cross_entropy")
def softmax_seen_through_a_view() -> Scope:
    net = Net(3)

    def loss() -> Tensor:
        chances = torch.softmax(net(torch.randn(4, 5, 6)), -1)  # <- named
        flat = chances.permute(0, 1, 2).reshape(-1, 3)
        return F.cross_entropy(flat, torch.randint(3, (20,)))  # <- here

    return fit(net, loss)


@cases.located(MISMATCH, "nll_loss", "'fc2'", "log_softmax")
def log_softmax_is_missing() -> Scope:
    net = Net(3)

    def loss() -> Tensor:
        return F.nll_loss(net(torch.randn(5, 6)), torch.randint(3, (5,)))  # <- here

    return fit(net, loss)


@cases.located(MISMATCH, "nll_loss", "softmax")
def probabilities_into_nll_loss() -> Scope:
    net = nn.Sequential(nn.Linear(6, 3), nn.Softmax(dim=1))
    criterion = nn.NLLLoss()

    def loss() -> Any:
        return criterion(net(torch.randn(5, 6)), torch.randint(3, (5,)))  # <- here

    return fit(net, loss)


@cases.located(MISMATCH, "sigmoid", "binary_cross_entropy_with_logits")
def sigmoid_and_bce_with_logits() -> Scope:
    class Detector(Net):
        def forward(self, x: Tensor) -> Any:
            return torch.sigmoid(super().forward(x)).squeeze(1)  # <- named

    net, criterion = Detector(), nn.BCEWithLogitsLoss()

    def loss() -> Any:
        return criterion(net(torch.randn(5, 6)), torch.rand(5).round())  # <- here

    return fit(net, loss)


@cases.located(MISMATCH, "kl_div", "softmax")
def probabilities_into_kl_div() -> Scope:
    student, teacher = Net(3), torch.randn(5, 3).softmax(1)

    def loss() -> Tensor:
        chances = student(torch.randn(5, 6)).softmax(1)  # <- named
        return F.kl_div(chances, teacher, reduction="batchmean")  # <- here

    return fit(student, loss)


@cases.located(MISMATCH, "log_softmax", "softmax")
def cross_entropy_by_hand_on_probabilities() -> Scope:
    net = Net(3)

    def loss() -> Any:
        chances = F.softmax(net(torch.randn(5, 6)), dim=1)  # <- named
        scores = F.log_softmax(chances, dim=1)  # <- here
        return -scores.gather(1, torch.randint(3, (5, 1))).mean()

    return fit(net, loss)


@pytest.mark.filterwarnings("ignore:Using a target size")
@cases.parametrized()
def test_the_loss_is_located(case: Case) -> None:
    check(case)
