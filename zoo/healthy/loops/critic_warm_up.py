# expect: nothing
"""The critic learns alone for a while; the actor's optimizer steps only later."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
actor = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1), nn.Tanh())
critic = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 1))
actor_opt, critic_opt = optim.Adam(actor.parameters(), lr=1e-3), optim.Adam(critic.parameters(), lr=1e-3)
for step in range(40):
    s = torch.randn(32, 4)
    a = (actor(s) + 0.2 * torch.randn(32, 1)).detach()
    reward = -(a - s[:, :1]).square()
    critic_opt.zero_grad()
    F.mse_loss(critic(torch.cat([s, a], 1)), reward).backward()
    critic_opt.step()
    if step >= 20 and step % 2 == 0:
        actor_opt.zero_grad()
        (-critic(torch.cat([s, actor(s)], 1)).mean()).backward()
        actor_opt.step()
