# expect: nothing
"""REINFORCE with a learned baseline that is detached where it scales."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.distributions import Categorical

policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
baseline = nn.Linear(4, 1)
agent = nn.ModuleDict({"policy": policy, "baseline": baseline})
optimizer = optim.Adam(agent.parameters(), lr=1e-2)
for episode in range(40):
    states = torch.randn(20, 4)
    d = Categorical(logits=policy(states))
    actions = d.sample()
    rewards = (actions == (states[:, 0] > 0).long()).float()
    returns = rewards.flip(0).cumsum(0).flip(0)
    values = baseline(states).squeeze(1)
    advantage = returns - values.detach()
    loss = -(d.log_prob(actions) * advantage).mean() + F.mse_loss(values, returns)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
