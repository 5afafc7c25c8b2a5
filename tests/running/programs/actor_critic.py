"""An actor and a critic on a pole: one network with two heads, an episode for each step."""

from collections import namedtuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.distributions import Categorical

torch.manual_seed(543)
SavedAction = namedtuple("SavedAction", ["log_prob", "value"])  # noqa: PYI024  as programs of its kind do
EPS = 1.1920929e-07


class Pole:
    """It falls to one side, and an action pushes it back a little."""

    def reset(self) -> Tensor:
        self.state = 0.1 * torch.randn(4)
        self.steps = 0
        return self.state.clone()

    def step(self, action: int) -> tuple[Tensor, float, bool]:
        push = torch.tensor([0.0, 0.0, 0.0, 0.12 * (2 * action - 1)])
        self.state = self.state + 0.1 * self.state.roll(-1) + push
        self.steps += 1
        return self.state.clone(), 1.0, bool(self.state.abs().max() > 1.5) or self.steps >= 25


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.affine1 = nn.Linear(4, 64)
        self.action_head = nn.Linear(64, 2)
        self.value_head = nn.Linear(64, 1)
        self.saved_actions: list[SavedAction] = []
        self.rewards: list[float] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.affine1(x))
        action_prob = F.softmax(self.action_head(x), dim=-1)
        return action_prob, self.value_head(x)


model = Policy()
optimizer = optim.Adam(model.parameters(), lr=3e-2)
env = Pole()


def select_action(state: Tensor) -> int:
    probs, state_value = model(state)
    m = Categorical(probs)
    action = m.sample()
    model.saved_actions.append(SavedAction(m.log_prob(action), state_value))
    return int(action.item())


def finish_episode() -> None:
    r, returns = 0.0, []
    policy_losses, value_losses = [], []
    for reward in model.rewards[::-1]:
        r = reward + 0.99 * r
        returns.insert(0, r)
    returns_t = torch.tensor(returns)
    returns_t = (returns_t - returns_t.mean()) / (returns_t.std() + EPS)
    for (log_prob, value), one in zip(model.saved_actions, returns_t, strict=True):
        advantage = one - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([float(one)])))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    del model.rewards[:]
    del model.saved_actions[:]


running_reward = 10.0
for i_episode in range(25):
    state = env.reset()
    ep_reward = 0.0
    for _ in range(25):
        state, reward, done = env.step(select_action(state))
        model.rewards.append(reward)
        ep_reward += reward
        if done:
            break
    running_reward = 0.05 * ep_reward + (1 - 0.05) * running_reward
    finish_episode()
    if i_episode % 5 == 0:
        print(f"Episode {i_episode}\tLast reward: {ep_reward:.2f}\tAverage reward: {running_reward:.2f}")
