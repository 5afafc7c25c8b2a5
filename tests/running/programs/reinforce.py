"""REINFORCE: log-probabilities are saved over an episode, and the returns weigh them."""

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.distributions import Categorical

torch.manual_seed(7)


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.affine1 = nn.Linear(4, 64)
        self.dropout = nn.Dropout(p=0.6)
        self.affine2 = nn.Linear(64, 2)
        self.saved_log_probs: list[Tensor] = []
        self.rewards: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.dropout(self.affine1(x)))
        return F.softmax(self.affine2(x), dim=1)


policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)


def select_action(state: Tensor) -> int:
    probs = policy(state.unsqueeze(0))
    m = Categorical(probs)
    action = m.sample()
    policy.saved_log_probs.append(m.log_prob(action))
    return int(action.item())


def finish_episode() -> None:
    r, policy_loss, returns = 0.0, [], deque()
    for reward in policy.rewards[::-1]:
        r = reward + 0.99 * r
        returns.appendleft(r)
    returns_t = torch.tensor(list(returns))
    returns_t = (returns_t - returns_t.mean()) / (returns_t.std() + 1e-7)
    for log_prob, one in zip(policy.saved_log_probs, returns_t, strict=True):
        policy_loss.append(-log_prob * one)
    optimizer.zero_grad()
    loss = torch.cat(policy_loss).sum()
    loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]


for i_episode in range(30):
    state, ep_reward = 0.1 * torch.randn(4), 0.0
    for _ in range(12):
        action = select_action(state)
        state = (0.9 * state + 0.1 * torch.randn(4)).clamp(-2, 2)
        reward = float((state[0] > 0) == bool(action))
        policy.rewards.append(reward)
        ep_reward += reward
    finish_episode()
    if i_episode % 10 == 0:
        print(f"Episode {i_episode}\tLast reward: {ep_reward:.2f}")
