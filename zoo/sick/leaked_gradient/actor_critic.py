# expect: leaked-gradient at actor_critic.py:28 in [02].* by step 3
"""The critic's loss flows through the shared encoder's actor: the advantage was not detached, and it is not cleared."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Agent:
    def __init__(self):
        self.actor = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 2))
        self.critic = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1))
        self.actor_opt = optim.Adam(self.actor.parameters(), lr=1e-3)
        self.critic_opt = optim.Adam(self.critic.parameters(), lr=1e-3)

    def update(self, s, goal):
        action = torch.tanh(self.actor(s))
        q = self.critic(torch.cat([s, action], 1)).squeeze(1)
        self.critic_opt.zero_grad()
        F.mse_loss(q, goal).backward()
        self.critic_opt.step()
        q = self.critic(torch.cat([s, torch.tanh(self.actor(s))], 1))
        (-q.mean()).backward()
        self.actor_opt.step()
        self.actor_opt.zero_grad()


agent = Agent()
for _ in range(30):
    s = torch.randn(32, 4)
    agent.update(s, s.sum(1))
