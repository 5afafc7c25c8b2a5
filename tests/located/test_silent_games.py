"""Healthy programs with several optimizers, gradients of gradients, scalers, or parameters made on the way."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812  as users write it
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import gradscope
from gradscope import Scope

cases = Cases()


class Game:
    """A generator and a critic with an optimizer each."""

    def __init__(self) -> None:
        self.g = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 6))
        self.d = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.step_g = torch.optim.Adam(self.g.parameters(), lr=1e-3)
        self.step_d = torch.optim.Adam(self.d.parameters(), lr=1e-3)
        self.ones, self.zeros = torch.ones(8, 1), torch.zeros(8, 1)

    def watch(self) -> Scope:
        return gradscope.watch({"g": self.g, "d": self.d})


@cases.silent
def fake_made_once_and_detached_for_the_critic() -> Scope:
    game = Game()
    with game.watch() as scope:
        for _ in range(6):
            fake = game.g(torch.randn(8, 4))
            game.step_d.zero_grad()
            real = F.binary_cross_entropy_with_logits(game.d(torch.randn(8, 6)), game.ones)
            (real + F.binary_cross_entropy_with_logits(game.d(fake.detach()), game.zeros)).backward()
            game.step_d.step()
            game.step_g.zero_grad()
            F.binary_cross_entropy_with_logits(game.d(fake), game.ones).backward()
            game.step_g.step()
    return scope


@cases.silent
def fake_made_twice_and_without_grad_for_the_critic() -> Scope:
    game = Game()
    with game.watch() as scope:
        for _ in range(6):
            with torch.no_grad():
                fake = game.g(torch.randn(8, 4))
            game.step_d.zero_grad()
            F.relu(1 - game.d(torch.randn(8, 6))).mean().backward()
            F.relu(1 + game.d(fake)).mean().backward()
            game.step_d.step()
            game.step_g.zero_grad()
            (-game.d(game.g(torch.randn(8, 4))).mean()).backward()
            game.step_g.step()
    return scope


@cases.silent
def generator_first() -> Scope:
    game = Game()
    with game.watch() as scope:
        for _ in range(6):
            game.step_g.zero_grad()
            fake = game.g(torch.randn(8, 4))
            F.binary_cross_entropy_with_logits(game.d(fake), game.ones).backward()
            game.step_g.step()
            game.step_d.zero_grad()
            real = F.binary_cross_entropy_with_logits(game.d(torch.randn(8, 6)), game.ones)
            made = F.binary_cross_entropy_with_logits(game.d(fake.detach()), game.zeros)
            ((real + made) / 2).backward()
            game.step_d.step()
    return scope


@cases.silent
def five_steps_of_the_critic_with_gradient_penalty() -> Scope:
    game = Game()
    with game.watch() as scope:
        for step in range(18):
            real, fake = torch.randn(8, 6), game.g(torch.randn(8, 4)).detach()
            mixed = torch.lerp(real, fake, torch.rand(8, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(game.d(mixed).sum(), mixed, create_graph=True)
            game.step_d.zero_grad()
            (game.d(fake).mean() - game.d(real).mean() + 10 * (slope.norm(2, dim=1) - 1).square().mean()).backward()
            game.step_d.step()
            if step % 6 == 5:
                game.step_g.zero_grad()
                (-game.d(game.g(torch.randn(8, 4))).mean()).backward()
                game.step_g.step()
    return scope


@cases.silent
def one_inner_step_of_meta_learning() -> Scope:
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))

    def loss() -> Any:
        x, y = torch.randn(5, 6), torch.randn(5, 2)
        weights: dict[str, Tensor] = dict(net.named_parameters())
        inner = F.mse_loss(functional_call(net, weights, (x,)), y)
        slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        fast = {name: p - 0.1 * g for (name, p), g in zip(weights.items(), slopes, strict=True)}
        return F.mse_loss(functional_call(net, fast, (torch.randn(5, 6),)), torch.randn(5, 2))

    return fit(net, loss)


@cases.silent
def weight_and_spectral_norm() -> Scope:
    net = nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 2)))
    return fit(net, optimizer=torch.optim.Adam)


@cases.silent
def loss_scaler_that_skips_an_overflow() -> Scope:
    net = Chain()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    with gradscope.watch(net) as scope:
        for _ in range(12):
            optimizer.zero_grad()
            output = net.decoder(net.encoder(torch.randn(5, 6)))
            scaler.scale(F.mse_loss(output, torch.randn(5, 2)) * 100).backward()
            scaler.step(optimizer)
            scaler.update()
    return scope


@cases.silent
def two_tasks_weighted_by_their_own_magnitude() -> Scope:
    net = nn.ModuleDict({"body": nn.Linear(6, 8), "a": nn.Linear(8, 1), "b": nn.Linear(8, 1)})

    def loss() -> Any:
        h = net["body"](torch.randn(5, 6)).relu()
        a, b = net["a"](h).square().mean(), net["b"](h).abs().mean()
        return a / a.detach().clamp(min=1e-3) + b / float(b.detach().clamp(min=1e-3))

    return fit(net, loss)


@cases.silent
def mixup() -> Scope:
    net = Chain()

    def loss() -> Any:
        x, y = torch.randn(6, 6), torch.randint(2, (6,))
        share, order = float(torch.rand(())), torch.randperm(6)
        output = net.decoder(net.encoder(share * x + (1 - share) * x[order]))
        return share * F.cross_entropy(output, y) + (1 - share) * F.cross_entropy(output, y[order])

    return fit(net, loss)


@cases.silent
def adversarial_inputs() -> Scope:
    net = Chain()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            x, y = torch.randn(5, 6, requires_grad=True), torch.randint(2, (5,))
            (slope,) = torch.autograd.grad(F.cross_entropy(net.decoder(net.encoder(x)), y), x)
            attacked = (x + 0.1 * slope.sign()).detach()
            optimizer.zero_grad()
            F.cross_entropy(net.decoder(net.encoder(attacked)), y).backward()
            optimizer.step()
    return scope


@cases.silent
def adversarial_weights_of_a_curriculum() -> Scope:
    net = Chain()

    def loss() -> Any:
        each = F.cross_entropy(net.decoder(net.encoder(torch.randn(8, 6))), torch.randint(2, (8,)), reduction="none")
        hardest = each.detach().topk(4).indices
        weights = torch.softmax(-each.detach(), 0)
        return each[hardest].mean() + (weights * each).sum()

    return fit(net, loss)


@cases.silent
def input_optimized_beside_the_weights() -> Scope:
    class Prompted(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.prompt = nn.Parameter(torch.zeros(1, 6))

        def forward(self, x: Tensor) -> Any:
            return self.decoder(self.encoder(torch.cat([self.prompt.expand(2, -1), x]))[2:] + self.prompt.sum())

    return fit(Prompted())


@cases.silent
def model_in_two_halves_that_hand_gradients_on() -> Scope:
    net = Chain()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            sent = net.encoder(torch.randn(5, 6))
            received = sent.detach().requires_grad_()
            optimizer.zero_grad()
            net.decoder(received).square().mean().backward()
            sent.backward(received.grad)
            optimizer.step()
    return scope


@cases.silent
def gradients_assigned_by_hand() -> Scope:
    net = Chain()
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            loss = net.decoder(net.encoder(torch.randn(5, 6))).square().mean()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient.clamp(-1, 1)
            optimizer.step()
    return scope


@cases.silent
def head_first_and_everything_later() -> Scope:
    net = Chain()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(10):
            with torch.set_grad_enabled(step >= 5):
                features = net.encoder(torch.randn(5, 6))
            optimizer.zero_grad()
            net.decoder(features).square().mean().backward()
            optimizer.step()
    return scope


@cases.silent
def two_that_teach_each_other_in_turn() -> Scope:
    nets = nn.ModuleDict({"a": nn.Linear(6, 2), "b": nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2))})
    optimizer = torch.optim.SGD(nets.parameters(), lr=0.01)
    with gradscope.watch(nets) as scope:
        for step in range(12):
            x = torch.randn(5, 6)
            a, b = nets["a"](x), nets["b"](x)
            optimizer.zero_grad()
            (F.mse_loss(a, b.detach()) if step % 8 < 4 else F.mse_loss(b, a.detach())).backward()
            optimizer.step()
    return scope


@cases.parametrized()
def test_a_healthy_game_is_no_alarm(case: Case) -> None:
    check(case)
