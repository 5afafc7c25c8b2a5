"""Healthy programs that stop gradients on purpose: targets, teachers, opponents, frozen parts, states, metrics."""

import copy
from typing import Any

import pytest
import torch
from located.harness import Case, Cases, Chain, check, fit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as users write it
from torch.utils.checkpoint import checkpoint

import gradscope
from gradscope import Scope

cases = Cases()


@cases.silent
def metrics_are_logged() -> Scope:
    net, history, count = Chain(), [], 0
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            x, y = torch.randn(5, 6), torch.randint(2, (5,))
            output = net.decoder(net.encoder(x))
            loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append((loss.item(), float(loss.detach()), output.detach().numpy().mean()))
            count += int((output.argmax(1) == y).sum())
            with torch.no_grad():
                history.append((loss.item(), (output.softmax(1) > 0.5).float().mean().item(), output.tolist()))
    return scope


@cases.silent
def running_loss_is_a_number() -> Scope:
    net, total, best = Chain(), 0.0, float("inf")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with gradscope.watch(net) as scope:
        for step in range(8):
            loss = net.decoder(net.encoder(torch.randn(5, 6))).square().mean()
            total += loss.item()
            best = min(best, total / (step + 1))
            (loss / max(1.0, loss.item())).backward()
            optimizer.step()
            optimizer.zero_grad()
    return scope


@cases.silent
def averaged_teacher_under_no_grad() -> Scope:
    student = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    teacher = copy.deepcopy(student)
    nets = nn.ModuleDict({"student": student, "teacher": teacher})
    optimizer = torch.optim.SGD(nets.parameters(), lr=0.05)
    with gradscope.watch(nets) as scope:
        for _ in range(8):
            x = torch.randn(5, 6)
            with torch.no_grad():
                goal = teacher(x + 0.1 * torch.randn_like(x))
            optimizer.zero_grad()
            F.mse_loss(student(x), goal + 0.1 * torch.randn_like(goal)).backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.mul_(0.9).add_(fast, alpha=0.1)
    return scope


@cases.silent
def simsiam() -> Scope:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
            self.predictor = nn.Linear(8, 8)

        def forward(self, a: Tensor, b: Tensor) -> Any:
            z1, z2 = self.encoder(a), self.encoder(b)
            p1, p2 = self.predictor(z1), self.predictor(z2)
            return -(F.cosine_similarity(p1, z2.detach()) + F.cosine_similarity(p2, z1.detach())).mean() / 2

    net = Siamese()
    return fit(net, lambda: net(torch.randn(8, 6), torch.randn(8, 6)))


@cases.silent
def byol() -> Scope:
    class Bootstrap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
            self.predictor = nn.Linear(4, 4)
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        def forward(self, a: Tensor, b: Tensor) -> Any:
            with torch.no_grad():
                goal = self.target(b)
            return 2 - 2 * F.cosine_similarity(self.predictor(self.online(a)), goal.detach()).mean()

        @torch.no_grad()
        def follow(self) -> None:
            for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                slow.data = 0.99 * slow.data + 0.01 * fast.data

    net = Bootstrap()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            optimizer.zero_grad()
            net(torch.randn(8, 6), torch.randn(8, 6)).backward()
            optimizer.step()
            net.follow()
    return scope


@cases.silent
def q_learning_with_a_target_network() -> Scope:
    online = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
    with gradscope.watch({"online": online, "target": target}) as scope:
        for step in range(8):
            state, following = torch.randn(8, 4), torch.randn(8, 4)
            with torch.no_grad():
                action = online(state).argmax(1, keepdim=True)
                best = online(following).argmax(1, keepdim=True)
                goal = torch.randn(8, 1) + 0.9 * target(following).gather(1, best)
            loss = F.smooth_l1_loss(online(state).gather(1, action), goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 4 == 3:
                target.load_state_dict(online.state_dict())
    return scope


@cases.silent
def target_network_in_the_optimizer_and_synchronized() -> Scope:
    agent = nn.ModuleDict({"online": nn.Linear(4, 3), "target": nn.Linear(4, 3)})
    agent["target"].load_state_dict(agent["online"].state_dict())
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
    with gradscope.watch(agent) as scope:
        for step in range(10):
            with torch.no_grad():
                goal = torch.randn(8) + 0.9 * agent["target"](torch.randn(8, 4)).max(1).values
            value = agent["online"](torch.randn(8, 4)).gather(1, torch.randint(3, (8, 1))).squeeze(1)
            optimizer.zero_grad()
            F.mse_loss(value, goal).backward()
            optimizer.step()
            if step % 4 == 3:
                agent["target"].load_state_dict(agent["online"].state_dict())
    return scope


@cases.silent
def actor_critic_with_a_detached_advantage() -> Scope:
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 16)
            self.actor, self.critic = nn.Linear(16, 3), nn.Linear(16, 1)

        def forward(self, state: Tensor) -> Any:
            h = torch.tanh(self.body(state))
            return torch.distributions.Categorical(logits=self.actor(h)), self.critic(h).squeeze(-1)

    net = Agent()

    def loss() -> Any:
        policy, value = net(torch.randn(16, 4))
        action = policy.sample()
        reward = (action == 1).float()
        advantage = (reward - value).detach()
        return (
            -(policy.log_prob(action) * advantage).mean() + F.mse_loss(value, reward) - 0.01 * policy.entropy().mean()
        )

    return fit(net, loss, optimizer=torch.optim.Adam)


@cases.silent
def actor_through_a_critic_of_its_own_optimizer() -> Scope:
    actor = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), nn.Tanh())
    critic = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    steer, judge = torch.optim.Adam(actor.parameters(), lr=1e-3), torch.optim.Adam(critic.parameters(), lr=1e-3)
    with gradscope.watch({"actor": actor, "critic": critic}) as scope:
        for _ in range(6):
            state, reward = torch.randn(8, 4), torch.randn(8, 1)
            action = actor(state).detach()
            judge.zero_grad()
            F.mse_loss(critic(torch.cat([state, action], 1)), reward).backward()
            judge.step()
            for parameter in critic.parameters():
                parameter.requires_grad_(False)
            steer.zero_grad()
            (-critic(torch.cat([state, actor(state)], 1)).mean()).backward()
            steer.step()
            for parameter in critic.parameters():
                parameter.requires_grad_(True)
    return scope


@cases.silent
def checkpoint_without_reentrance() -> Scope:
    class Net(Chain):
        def forward(self, x: Tensor) -> Any:
            return self.decoder(checkpoint(self.encoder, x, use_reentrant=False))

    return fit(Net())


@cases.silent
def reentrant_checkpoint_of_a_middle() -> Scope:
    class Net(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Any:
            return self.decoder(checkpoint(self.encoder, self.stem(x), use_reentrant=True))

    return fit(Net())


@cases.silent
def truncated_backpropagation_through_time() -> Scope:
    net = nn.ModuleDict({"cell": nn.GRU(3, 8, batch_first=True), "readout": nn.Linear(8, 2)})
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    hidden = torch.zeros(1, 5, 8)
    with gradscope.watch(net) as scope:
        for _ in range(8):
            states, hidden = net["cell"](torch.randn(5, 4, 3), hidden.detach())
            loss = net["readout"](states).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return scope


@cases.silent
def frozen_backbone_under_no_grad() -> Scope:
    net = Chain()
    net.encoder.requires_grad_(False)
    optimizer = torch.optim.SGD(net.decoder.parameters(), lr=0.1)
    with gradscope.watch(net) as scope:
        for _ in range(7):
            with torch.no_grad():
                features = net.encoder(torch.randn(5, 6))
            optimizer.zero_grad()
            F.cross_entropy(net.decoder(features), torch.randint(2, (5,))).backward()
            optimizer.step()
    return scope


@cases.silent
def low_rank_adapters_that_start_at_zero() -> Scope:
    class Adapted(nn.Module):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.a = nn.Parameter(torch.randn(2, layer.in_features) / 4)
            self.b = nn.Parameter(torch.zeros(layer.out_features, 2))

        def forward(self, x: Tensor) -> Any:
            return self.layer(x) + x @ self.a.T @ self.b.T

    net = nn.Sequential(Adapted(nn.Linear(6, 8)), nn.ReLU(), Adapted(nn.Linear(8, 2)))
    return fit(net)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@cases.parametrized()
def test_what_is_stopped_on_purpose_is_no_alarm(case: Case) -> None:
    check(case)
