# expect: non-differentiable-op at sampled_action.py:21 in policy.* since step 0
# twin: healthy/rl/reinforce.py
"""A policy trained through its sampled action, as if a sample had a derivative."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.distributions import Categorical


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3))
        self.value = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 1))

    def act(self, state):
        return Categorical(logits=self.policy(state)).sample()

    def forward(self, state):
        action = self.act(state).float().unsqueeze(1)
        return self.value(torch.cat([state, action], dim=1))


agent = Agent()
optimizer = optim.Adam(agent.parameters(), lr=1e-3)
for episode in range(20):
    state = torch.randn(24, 4)
    loss = -agent(state).mean() + 0.1 * agent(state).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
