"""Healthy programs that look sick in the naive signal: no error, no warning."""

from collections.abc import Callable

import pytest
import torch
from models import Block, Digits, Encoder, ResNet18, digits_batch, images_batch, tokens_batch
from torch import Tensor, nn
from torch.nn import functional

import gradscope
from gradscope.findings import Severity

Program = Callable[[], gradscope.Scope]

STEPS = 30

programs: list[Program] = []


def healthy(program: Program) -> Program:
    programs.append(program)
    return program


def fit(
    net: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer | None = None,
    steps: int = STEPS,
    *,
    zero: bool = True,
) -> gradscope.Scope:
    made = optimizer or torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    with gradscope.watch(net) as scope:
        for _ in range(steps):
            if zero:
                made.zero_grad()
            loss().backward()
            made.step()
    return scope


def classified(net: nn.Module, batch: Callable[[], Tensor], classes: int = 10) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        inputs = batch()
        return functional.cross_entropy(net(inputs), torch.randint(classes, (len(inputs),)))

    return loss


@healthy
def cnn() -> gradscope.Scope:
    net = Digits()
    return fit(net, classified(net, digits_batch))


@healthy
def residual_network() -> gradscope.Scope:
    net = ResNet18()
    return fit(net, classified(net, images_batch), steps=10)


@healthy
def transformer_with_adam() -> gradscope.Scope:
    net = Encoder()
    return fit(net, classified(net, tokens_batch), torch.optim.AdamW(net.parameters(), lr=1e-3))


@healthy
def zero_gamma_residual_network() -> gradscope.Scope:
    net = ResNet18()
    for module in net.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.bn2.weight)
    return fit(net, classified(net, images_batch), steps=10)


@healthy
def accumulation() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        for i in range(4 * STEPS):
            (net(torch.randn(5, 6)).square().mean() / 4).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    return scope


@healthy
def accumulation_zeroed_in_place() -> gradscope.Scope:
    net = Encoder()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    loss = classified(net, tokens_batch)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS // 2):
            optimizer.zero_grad(set_to_none=False)
            for _ in range(3):
                (loss() / 3).backward()
            optimizer.step()
    return scope


def gan(*, detach: bool) -> gradscope.Scope:
    pair = {"generator": nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8)), "critic": nn.Linear(8, 1)}
    generate = torch.optim.Adam(pair["generator"].parameters(), lr=1e-3)
    criticise = torch.optim.Adam(pair["critic"].parameters(), lr=1e-3)
    with gradscope.watch(pair) as scope:
        for _ in range(STEPS):
            fake = pair["generator"](torch.randn(16, 4))
            criticise.zero_grad()
            real = pair["critic"](torch.randn(16, 8))
            seen = pair["critic"](fake.detach() if detach else fake)
            (functional.softplus(-real).mean() + functional.softplus(seen).mean()).backward(retain_graph=not detach)
            criticise.step()
            generate.zero_grad()
            functional.softplus(-pair["critic"](pair["generator"](torch.randn(16, 4)))).mean().backward()
            generate.step()
    return scope


@healthy
def gan_with_detach() -> gradscope.Scope:
    return gan(detach=True)


@healthy
def gan_whose_generator_is_cleared_in_time() -> gradscope.Scope:
    return gan(detach=False)


@healthy
def wasserstein_gan_with_gradient_penalty() -> gradscope.Scope:
    generator, critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    net = nn.ModuleList([generator, critic])
    generate = torch.optim.Adam(generator.parameters(), lr=1e-4)
    criticise = torch.optim.Adam(critic.parameters(), lr=1e-4)
    with gradscope.watch(net) as scope:
        for i in range(STEPS):
            criticise.zero_grad()
            real, fake = torch.randn(16, 8), generator(torch.randn(16, 4)).detach()
            mixed = (0.5 * real + 0.5 * fake).requires_grad_()
            (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).square().mean()
            (critic(fake).mean() - critic(real).mean() + 10 * penalty).backward()
            criticise.step()
            if i % 5 == 4:
                generate.zero_grad()
                (-critic(generator(torch.randn(16, 4))).mean()).backward()
                generate.step()
    return scope


@healthy
def lbfgs() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    inputs = torch.randn(20, 3)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = functional.mse_loss(net(inputs), inputs.sum(1, keepdim=True))
        loss.backward()
        return float(loss.detach())

    with gradscope.watch(net) as scope:
        for _ in range(10):
            optimizer.step(closure)
    return scope


@healthy
def frozen_backbone() -> gradscope.Scope:
    net = Digits()
    net.features.requires_grad_(False)
    return fit(net, classified(net, digits_batch))


@healthy
def frozen_middle() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    net[2].requires_grad_(False)
    return fit(net, lambda: net(torch.randn(5, 6)).square().mean())


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
        self.predictor = nn.Linear(8, 8)


@healthy
def stop_gradient_in_simsiam() -> gradscope.Scope:
    net = Siamese()

    def loss() -> Tensor:
        views = torch.randn(2, 16, 8)
        left, right = net.encoder(views[0]), net.encoder(views[1])
        return -(
            functional.cosine_similarity(net.predictor(left), right.detach()).mean()
            + functional.cosine_similarity(net.predictor(right), left.detach()).mean()
        )

    return fit(net, loss)


@healthy
def target_network_under_no_grad() -> gradscope.Scope:
    online, target = nn.Linear(6, 3), nn.Linear(6, 3)
    both = nn.ModuleDict({"online": online, "target": target})
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
    with gradscope.watch(both) as scope:
        for _ in range(STEPS):
            states = torch.randn(8, 6)
            with torch.no_grad():
                goal = target(states).max(1).values
            optimizer.zero_grad()
            functional.smooth_l1_loss(online(states).max(1).values, goal).backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                    slow.lerp_(fast, 0.05)
    return scope


@healthy
def loss_that_is_exactly_zero() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    return fit(net, lambda: functional.relu(net(torch.randn(5, 6)).square().mean() - 1e9))


@healthy
def converged_regression() -> gradscope.Scope:
    net = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(4, 4), nn.Tanh())), nn.Linear(4, 1))
    inputs = torch.randn(32, 4)
    with torch.no_grad():
        goal = net(inputs)
    return fit(net, lambda: functional.mse_loss(net(inputs), goal + 1e-9))


@healthy
def large_vocabulary() -> gradscope.Scope:
    net = nn.Sequential(nn.Embedding(20_000, 32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 20_000))

    def loss() -> Tensor:
        tokens = torch.randint(20_000, (4, 9))
        return functional.cross_entropy(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    return fit(net, loss, torch.optim.AdamW(net.parameters(), lr=1e-3), steps=6)


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base(x) + self.up(self.down(x))
        return output


@healthy
def lora_with_b_zero() -> gradscope.Scope:
    net = nn.Sequential(*(layer for _ in range(6) for layer in (LoRA(nn.Linear(16, 16)), nn.GELU())))
    return fit(net, lambda: net(torch.randn(8, 16)).square().mean())


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(20, 16), cell(16, 24, batch_first=True), nn.Linear(24, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.head(self.cell(self.embed(tokens))[0][:, -1])
        return output


@healthy
def lstm() -> gradscope.Scope:
    net = Recurrent(nn.LSTM)
    return fit(net, classified(net, lambda: torch.randint(20, (8, 30)), 20))


@healthy
def gru_with_clipping() -> gradscope.Scope:
    net = Recurrent(nn.GRU)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    loss = classified(net, lambda: torch.randint(20, (8, 30)), 20)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=False)
            loss().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.01)
            optimizer.step()
    return scope


@healthy
def truncated_backpropagation_through_time() -> gradscope.Scope:
    cell, head = nn.LSTMCell(4, 8), nn.Linear(8, 1)
    net = nn.ModuleList([cell, head])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        state = (torch.zeros(2, 8), torch.zeros(2, 8))
        for _ in range(STEPS):
            state = (state[0].detach(), state[1].detach())
            optimizer.zero_grad()
            loss = torch.zeros(())
            for _ in range(5):
                state = cell(torch.randn(2, 4), state)
                loss = loss + head(state[0]).square().mean()
            loss.backward()
            optimizer.step()
    return scope


@healthy
def mixed_precision_with_an_overflow() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = net(torch.randn(5, 6)).square().mean()
            scaler.scale(1e4 * loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    return scope


@healthy
def masked_attention() -> gradscope.Scope:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
            self.mask = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            scores = self.query(x) @ self.key(x).transpose(1, 2)
            scores = self.mask(scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf")))
            output: Tensor = scores.softmax(-1) @ self.value(x)
            return output

    net = Masked()
    return fit(net, lambda: net(torch.randn(3, 5, 8)).square().mean())


@healthy
def learning_rate_warm_up() -> gradscope.Scope:
    net = Encoder()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 1000)
    loss = classified(net, tokens_batch)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            schedule.step()
    return scope


@healthy
def validation_between_epochs() -> gradscope.Scope:
    net = Digits()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(6):
            net.train()
            for _ in range(5):
                optimizer.zero_grad()
                functional.cross_entropy(net(digits_batch()), torch.randint(10, (16,))).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                functional.cross_entropy(net(digits_batch()), torch.randint(10, (16,)))
    return scope


@healthy
def adversarial_training() -> gradscope.Scope:
    net = Digits()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            images, labels = digits_batch().requires_grad_(), torch.randint(10, (16,))
            (slope,) = torch.autograd.grad(functional.cross_entropy(net(images), labels), images)
            optimizer.zero_grad()
            functional.cross_entropy(net((images + 0.1 * slope.sign()).detach()), labels).backward()
            optimizer.step()
    return scope


@healthy
def sharpness_aware_minimization() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            inputs = torch.randn(5, 6)
            net(inputs).square().mean().backward()
            moves = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in net.parameters() if p.grad is not None]
            with torch.no_grad():
                torch._foreach_add_(list(net.parameters()), moves)
            optimizer.zero_grad()
            net(inputs).square().mean().backward()
            with torch.no_grad():
                torch._foreach_sub_(list(net.parameters()), moves)
            optimizer.step()
            optimizer.zero_grad()
    return scope


@healthy
def mixture_of_experts_with_an_idle_one() -> gradscope.Scope:
    experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
    gate = nn.Linear(6, 4)
    net = nn.ModuleList([experts, gate])

    def loss() -> Tensor:
        x = torch.randn(1, 6)
        weights = gate(x).softmax(-1)[0]
        best = int(weights[:3].argmax())
        mixed: Tensor = weights[best] * experts[best](x)
        return mixed.square().mean()

    return fit(net, loss)


@healthy
def straight_through_quantizer() -> gradscope.Scope:
    first, last = nn.Linear(6, 8), nn.Linear(8, 2)
    net = nn.ModuleList([first, last])

    def loss() -> Tensor:
        hidden = first(torch.randn(5, 6))
        output: Tensor = last(hidden + (hidden.round() - hidden).detach())
        return output.square().mean()

    return fit(net, loss)


@healthy
def policy_gradient() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))

    def loss() -> Tensor:
        policy = torch.distributions.Categorical(logits=net(torch.randn(12, 4)))
        actions = policy.sample()
        scores: Tensor = policy.log_prob(actions) * (actions.float() - 0.5)
        return -scores.mean()

    return fit(net, loss)


@healthy
def momentum_and_weight_decay_with_zeros_kept() -> gradscope.Scope:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=False)
            net(torch.randn(5, 6)).square().mean().backward()
            optimizer.step()
    return scope


@healthy
def deep_relu_network_with_default_initialisation() -> gradscope.Scope:
    net = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.ReLU())), nn.Linear(32, 1))
    return fit(net, lambda: (net(torch.randn(16, 32)) - 1).square().mean())


@healthy
def linear_probe_on_no_grad_features() -> gradscope.Scope:
    net = Digits()
    optimizer = torch.optim.SGD(net.head.parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        for _ in range(STEPS):
            with torch.no_grad():
                features = net.features(digits_batch()).flatten(1)
            optimizer.zero_grad()
            functional.cross_entropy(net.head(features), torch.randint(10, (16,))).backward()
            optimizer.step()
    return scope


@healthy
def sparse_embedding() -> gradscope.Scope:
    net = nn.Sequential(nn.EmbeddingBag(1000, 8, sparse=True), nn.Linear(8, 2))
    return fit(net, lambda: net(torch.randint(1000, (5, 6))).square().mean(), torch.optim.SGD(net.parameters(), lr=0.1))


@pytest.mark.parametrize("program", programs, ids=lambda program: program.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_program_raises_no_alarm(program: Program, seed: int) -> None:
    torch.manual_seed(seed)
    scope = program()
    alarms = [str(finding) for finding in scope.findings if finding.severity is not Severity.NOTE]
    assert not alarms, "\n".join(alarms)
    assert scope.report().steps >= 6
    assert not [note for note in scope.report().notes if "sparse_coo" not in note]
