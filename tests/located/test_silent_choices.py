"""Healthy programs that choose, round, mask or sample, and let gradients through another way."""

from typing import Any

import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F  # noqa: N812  as users write it

import gradscope
from gradscope import Scope

cases = Cases()


class Quantizer(nn.Module):
    """A codebook of 16 codes; the encoder's gradient goes straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(16, 8))

    def nearest(self, z: Tensor) -> Any:
        return torch.cdist(z, self.codes).argmin(1)


@cases.silent
def codebook_with_a_loss_of_its_own() -> Scope:
    net = Chain()
    quantizer = Quantizer()
    nets = nn.ModuleDict({"chain": net, "quantizer": quantizer})

    def loss() -> Any:
        z = net.encoder(torch.randn(5, 6))
        code = quantizer.codes[quantizer.nearest(z)]
        through = z + (code - z).detach()
        commitment = F.mse_loss(z, code.detach())
        return net.decoder(through).square().mean() + F.mse_loss(code, z.detach()) + 0.25 * commitment

    return fit(nets, loss, optimizer=torch.optim.Adam)


@cases.silent
def codebook_that_is_averaged() -> Scope:
    net, quantizer = Chain(), Quantizer()
    nets = nn.ModuleDict({"chain": net, "quantizer": quantizer})
    optimizer = torch.optim.SGD(nets.parameters(), lr=0.01)
    with gradscope.watch(nets) as scope:
        for _ in range(7):
            z = net.encoder(torch.randn(32, 6))
            with torch.no_grad():
                chosen = quantizer.nearest(z)
                code = quantizer.codes[chosen]
                sums = torch.zeros(16, 8).index_add_(0, chosen, z)
                counts = torch.bincount(chosen, minlength=16).clamp(min=1)
                quantizer.codes.lerp_(sums / counts[:, None], 0.1)
            loss = net.decoder(z + (code - z).detach()).square().mean() + 0.25 * F.mse_loss(z, code)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.silent
def straight_through_rounding() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x) * 16
            return self.decoder((h + (h.round() - h).detach()) / 16)

    return fit(Net())


@cases.silent
def straight_through_argmax() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            soft = self.encoder(x).softmax(1)
            hard = F.one_hot(soft.argmax(1), 8).float()
            return self.decoder(hard - soft.detach() + soft)

    return fit(Net())


@cases.silent
def hard_gumbel_by_hand() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            noise = -torch.empty(len(x), 8).exponential_().log()
            soft = ((self.encoder(x) + noise) / 0.7).softmax(-1)
            hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
            return self.decoder(hard + soft - soft.detach())

    return fit(Net())


@cases.silent
def hard_gumbel_of_torch() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(F.gumbel_softmax(self.encoder(x), tau=0.5, hard=True))

    return fit(Net())


@cases.silent
def fake_quantization() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(torch.fake_quantize_per_tensor_affine(self.encoder(x), 0.05, 0, -128, 127))

    return fit(Net())


@cases.silent
def experts_chosen_by_top_1_and_scaled() -> Scope:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(6, 2)
            self.experts = nn.ModuleList([nn.Linear(6, 2) for _ in range(2)])

        def forward(self, x: Tensor) -> Any:
            chance, chosen = self.router(x).softmax(1).max(1)
            out = torch.zeros(len(x), 2)
            for index, expert in enumerate(self.experts):
                rows = chosen == index
                out[rows] = expert(x[rows]) * chance[rows, None]
            return out

    net = Mixture()
    return fit(net, lambda: F.mse_loss(net(torch.randn(64, 6)), torch.randn(64, 2)))


@cases.silent
def experts_chosen_by_top_k() -> Scope:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(6, 3)
            self.experts = nn.ModuleList([nn.Linear(6, 2) for _ in range(3)])

        def forward(self, x: Tensor) -> Any:
            scores, chosen = self.router(x).topk(2, dim=1)
            gates = torch.zeros(len(x), 3).scatter(1, chosen, scores.softmax(1))
            outputs = torch.stack([expert(x) for expert in self.experts], 1)
            load = F.one_hot(chosen, 3).float().mean((0, 1))
            balance = (load * self.router(x).softmax(1).mean(0)).sum()
            return (gates.unsqueeze(-1) * outputs).sum(1) + 0 * balance

    net = Mixture()
    return fit(net, lambda: F.mse_loss(net(torch.randn(64, 6)), torch.randn(64, 2)))


@cases.silent
def attention_with_masks_by_comparison() -> Scope:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 8, padding_idx=0)
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 2)

        def forward(self, tokens: Tensor) -> Any:
            q, k, v = self.qkv(self.embed(tokens)).chunk(3, -1)
            scores = q @ k.mT / 8**0.5
            causal = torch.ones(6, 6).triu(1).bool()
            scores = scores.masked_fill(causal, float("-inf")).masked_fill((tokens == 0)[:, None], -1e9)
            return self.out(scores.softmax(-1) @ v)

    net = Attention()
    tokens = torch.randint(1, 20, (5, 6))
    tokens[:, -1] = 0

    def loss() -> Any:
        logits = net(tokens).masked_fill(torch.tensor([False, True]), float("-inf"))
        return F.cross_entropy(logits.flatten(0, 1), torch.zeros(30, dtype=torch.long)) + net(tokens).square().mean()

    return fit(net, loss)


@cases.silent
def dropout_and_ramp_by_hand() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            h = h * (torch.rand_like(h) > 0.3).float() / 0.7
            h = h * (h > 0)
            return self.decoder(torch.where(h > 1, 2 * h, h))

    return fit(Net())


@cases.silent
def policy_gradient_with_a_baseline() -> Scope:
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    baseline = 0.0
    with gradscope.watch(net) as scope:
        for _ in range(8):
            policy = Categorical(logits=net(torch.randn(32, 4)))
            action = policy.sample()
            reward = (action == 2).float()
            loss = -(policy.log_prob(action) * (reward - baseline)).mean()
            baseline = 0.9 * baseline + 0.1 * reward.mean().item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.silent
def variational_autoencoder() -> Scope:
    net = nn.ModuleDict({"encoder": nn.Linear(6, 8), "decoder": nn.Linear(4, 6)})

    def loss() -> Any:
        x = torch.rand(16, 6)
        mean, spread = net["encoder"](x).chunk(2, 1)
        posterior = Normal(mean, (0.5 * spread).exp())
        divergence = torch.distributions.kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()
        return F.binary_cross_entropy_with_logits(net["decoder"](posterior.rsample()), x) + 0.1 * divergence

    return fit(net, loss)


@cases.silent
def memory_read_by_position() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.encoder(x)
            order = h.sum(1).argsort()
            best = h.max(1)
            return self.decoder(h[order]) + best.values[:, None] + h.gather(1, best.indices[:, None])

    return fit(Net())


@cases.parametrized()
def test_a_choice_with_another_way_is_no_alarm(case: Case) -> None:
    check(case)
