# expect: broadcast-loss at actor_critic_returns.py:29 since step 0
# twin: healthy/rl/a2c_two_optimizers.py
"""Values as a column, returns as a row, in the critic's loss; Huber's own formula by hand."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
        self.value = nn.Linear(32, 1)

    def forward(self, s):
        return self.value(self.body(s))


class Learner:
    def __init__(self):
        self.critic = Critic()
        self.optimizer = optim.RMSprop(self.critic.parameters(), lr=1e-3)

    def update(self, s, returns):
        error = returns - self.critic(s)
        loss = torch.where(error.abs() < 1, 0.5 * error**2, error.abs() - 0.5).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


learner = Learner()
for _ in range(20):
    s = torch.randn(40, 4)
    learner.update(s, s.sum(1))
