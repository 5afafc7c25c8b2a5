# expect: nothing
"""Dreamer in small: the model learns from data, the actor in imagination, from states that are detached."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
encoder, dynamics, reward = nn.Linear(6, 12), nn.GRUCell(2, 12), nn.Linear(12, 1)
model = nn.ModuleList([encoder, dynamics, reward])
actor = nn.Sequential(nn.Linear(12, 16), nn.ELU(), nn.Linear(16, 2), nn.Tanh())
model_opt, actor_opt = optim.Adam(model.parameters(), lr=1e-3), optim.Adam(actor.parameters(), lr=1e-3)
for _ in range(20):
    obs, actions = torch.randn(16, 6), torch.rand(16, 4, 2) * 2 - 1
    goal = obs.mean(1, keepdim=True) + actions.sum(2).cumsum(1)
    h, rewards, states = encoder(obs), [], []
    for t in range(4):
        h = dynamics(actions[:, t], h)
        states.append(h)
        rewards.append(reward(h))
    model_opt.zero_grad()
    F.mse_loss(torch.cat(rewards, 1), goal).backward()
    model_opt.step()
    h, value = torch.cat(states).detach(), 0
    for t in range(4):
        h = dynamics(actor(h), h)
        value = value + 0.9**t * reward(h)
    actor_opt.zero_grad()
    (-value.mean()).backward()
    actor_opt.step()
