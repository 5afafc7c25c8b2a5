"""Healthy losses that look like a broadcast, a doubled activation or an overflow."""

from typing import Any

import torch
from located.harness import Case, Cases, check, fit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it

from gradscope import Scope

cases = Cases()


class Net(nn.Module):
    """Two layers; as many outputs as are asked for."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Any:
        return self.fc2(torch.tanh(self.fc1(x)))


@cases.silent
def ranking_of_all_pairs() -> Scope:
    net = Net()

    def loss() -> Any:
        scores, rank = net(torch.randn(5, 6)), torch.randn(5)
        differences = scores - scores.squeeze(1)
        order = (rank[:, None] > rank).float()
        return (order * F.softplus(-differences)).sum() / order.sum()

    return fit(net, loss)


@cases.silent
def maximum_mean_discrepancy_in_one_dimension() -> Scope:
    net = Net()

    def loss() -> Any:
        fake, real = net(torch.randn(8, 6)).squeeze(1), torch.randn(8)
        across = (fake.unsqueeze(1) - real).abs().mean()
        within = (fake[:, None] - fake[None, :]).abs().mean()
        return 2 * across - within

    return fit(net, loss)


@cases.silent
def pairwise_distances() -> Scope:
    net = Net(4)

    def loss() -> Any:
        z, labels = net(torch.randn(8, 6)), torch.arange(8) // 2
        distances = (z[:, None] - z[None]).square().sum(-1)
        same = (labels[:, None] == labels).float()
        return (same * distances + (1 - same) * F.relu(1 - distances)).mean()

    return fit(net, loss)


@cases.silent
def quantile_heads() -> Scope:
    net = Net(5)
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])

    def loss() -> Any:
        error = torch.randn(5, 1) - net(torch.randn(5, 6))
        return torch.maximum(quantiles * error, (quantiles - 1) * error).mean()

    return fit(net, loss)


@cases.silent
def quantile_regression_of_a_distribution() -> Scope:
    net = Net(8)
    midpoints = (torch.arange(8) + 0.5) / 8

    def loss() -> Any:
        predicted, goal = net(torch.randn(4, 6)), torch.randn(4, 8)
        error = goal.unsqueeze(1) - predicted.unsqueeze(2)
        return ((midpoints[:, None] - (error.detach() < 0).float()).abs() * F.huber_loss(
            error, torch.zeros_like(error), reduction="none"
        )).mean()  # fmt: skip

    return fit(net, loss)


@cases.silent
def weights_per_sample() -> Scope:
    net = Net(3)

    def loss() -> Any:
        weights = torch.rand(5)
        each = F.cross_entropy(net(torch.randn(5, 6)), torch.randint(3, (5,)), reduction="none")
        return (weights * each).sum() / weights.sum()

    return fit(net, loss)


@cases.silent
def distillation_from_a_softmax() -> Scope:
    nets = nn.ModuleDict({"student": Net(3), "teacher": Net(3).requires_grad_(False)})

    def loss() -> Any:
        x = torch.randn(5, 6)
        soft = F.softmax(nets["teacher"](x) / 2, dim=1)
        logits = nets["student"](x)
        return F.kl_div(F.log_softmax(logits / 2, 1), soft, reduction="batchmean") * 4 + F.cross_entropy(logits, soft)

    return fit(nets, loss)


@cases.silent
def distillation_without_freezing_the_teacher() -> Scope:
    student, teacher = Net(3), Net(3)

    def loss() -> Any:
        x = torch.randn(5, 6)
        return F.cross_entropy(student(x), teacher(x).softmax(1).detach())

    return fit(student, loss)


@cases.silent
def focal_loss_by_hand() -> Scope:
    net = Net(1)

    def loss() -> Any:
        logits, y = net(torch.randn(8, 6)), torch.rand(8, 1).round()
        p = torch.sigmoid(logits)
        right = p * y + (1 - p) * (1 - y)
        return ((1 - right) ** 2 * F.binary_cross_entropy_with_logits(logits, y, reduction="none")).mean()

    return fit(net, loss)


@cases.silent
def attention_pooling_before_cross_entropy() -> Scope:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score, self.head = nn.Linear(6, 1), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Any:
            return self.head((self.score(x).softmax(1) * x).sum(1))

    net = Pooled()
    return fit(net, lambda: F.cross_entropy(net(torch.randn(5, 4, 6)), torch.randint(3, (5,))))


@cases.silent
def logarithm_of_softmax_into_nll_loss() -> Scope:
    net = Net(3)

    def loss() -> Tensor:
        return F.nll_loss(torch.log(net(torch.randn(5, 6)).softmax(1)), torch.randint(3, (5,)))

    return fit(net, loss)


@cases.silent
def log_softmax_into_cross_entropy() -> Scope:
    net = nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(dim=1))
    return fit(net, lambda: F.cross_entropy(net(torch.randn(5, 6)), torch.randint(3, (5,))))


@cases.silent
def autoencoder_with_sigmoid_and_squares() -> Scope:
    net = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 6), nn.Sigmoid())
    x = torch.rand(5, 6)
    return fit(net, lambda: F.mse_loss(net(x), x) + F.binary_cross_entropy(net(x), x))


@cases.silent
def mean_of_probabilities_of_an_ensemble() -> Scope:
    net = nn.ModuleList([Net(3), Net(3)])

    def loss() -> Tensor:
        x = torch.randn(5, 6)
        chances = torch.stack([member(x).softmax(1) for member in net]).mean(0)
        return F.nll_loss(chances.log(), torch.randint(3, (5,)))

    return fit(net, loss)


@cases.silent
def contrastive_loss_with_temperature() -> Scope:
    net = Net(4)

    def loss() -> Tensor:
        a, b = (F.normalize(net(torch.randn(6, 6)), dim=1) for _ in range(2))
        similarity = a @ b.T / 0.1
        other = similarity.masked_fill(torch.eye(6).roll(1, 0).bool(), float("-inf"))
        return F.cross_entropy(similarity, torch.arange(6)) + F.cross_entropy(other, torch.arange(6))

    return fit(net, loss)


@cases.silent
def label_smoothing_and_one_hot_by_hand() -> Scope:
    net = Net(3)

    def loss() -> Any:
        y = F.one_hot(torch.randint(3, (5,)), 3).float() * 0.9 + 0.1 / 3
        logits = net(torch.randn(5, 6))
        return -(y * logits.log_softmax(1)).sum(1).mean() + F.cross_entropy(logits, y.argmax(1), label_smoothing=0.1)

    return fit(net, loss)


@cases.silent
def double_where() -> Scope:
    net = Net()

    def loss() -> Any:
        gap = torch.relu(net(torch.randn(5, 6))) * torch.eye(5, 1)
        inside = torch.where(gap > 0, gap, 1.0)
        return torch.where(gap > 0, inside.sqrt(), 0.0).mean() + net(torch.randn(5, 6)).square().mean()

    return fit(net, loss)


@cases.silent
def square_root_with_eps() -> Scope:
    net = Net(3)

    def loss() -> Any:
        z = net(torch.randn(5, 6))
        return ((z - z[:1]).square().sum(1) + 1e-8).sqrt().mean() + torch.log(z.square() + 1e-6).mean() * 1e-3

    return fit(net, loss)


@cases.silent
def infinite_scores_that_are_never_chosen() -> Scope:
    net = Net(4)
    legal = torch.tensor([True, True, False, True])

    def loss() -> Any:
        logits = net(torch.randn(5, 6)).masked_fill(~legal, float("-inf"))
        chances, scores = logits.softmax(1), logits.log_softmax(1)
        entropy = -torch.where(legal, chances * scores.masked_fill(~legal, 0.0), 0.0).sum(1).mean()
        return F.cross_entropy(logits, torch.randint(2, (5,))) - 0.01 * entropy

    return fit(net, loss)


@cases.parametrized()
def test_a_healthy_loss_is_no_alarm(case: Case) -> None:
    check(case)
