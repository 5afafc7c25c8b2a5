# expect: leaked-gradient at critic_cleared_too_late.py:36 in critic.* by step 4
# twin: healthy/rl/soft_actor_critic.py
"""DDPG: the actor's loss leaves gradients in the critic, which is cleared behind its step and not before its loss."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class DDPG(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 1), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 1))

    def value(self, state, action):
        return self.critic(torch.cat([state, action], 1)).squeeze(1)

    def actor_loss(self, state):
        return -self.value(state, self.actor(state)).mean()

    def critic_loss(self, state, action, reward):
        return F.smooth_l1_loss(self.value(state, action), reward)


agent = DDPG()
actor_opt = optim.Adam(agent.actor.parameters(), lr=1e-3)
critic_opt = optim.Adam(agent.critic.parameters(), lr=1e-3)
for _ in range(25):
    state, action = torch.randn(32, 3), 2 * torch.rand(32, 1) - 1
    agent.critic_loss(state, action, -(action - state[:, :1]).pow(2).squeeze(1)).backward()
    critic_opt.step()
    critic_opt.zero_grad()
    actor_opt.zero_grad()
    agent.actor_loss(state).backward()
    actor_opt.step()
