# expect: nothing
"""Advantage actor-critic, an optimizer for each; the critic's loss is stepped first, and its value detached."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.distributions import Categorical

actor = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 3))
critic = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1))
actor_opt, critic_opt = optim.RMSprop(actor.parameters(), lr=1e-3), optim.RMSprop(critic.parameters(), lr=1e-3)
state = torch.randn(8, 4)
for t in range(40):
    d = Categorical(logits=actor(state))
    action = d.sample()
    following = 0.9 * state + 0.1 * torch.randn(8, 4)
    reward = (action == state[:, :3].argmax(1)).float()
    with torch.no_grad():
        goal = reward + 0.9 * critic(following).squeeze(1)
    value = critic(state).squeeze(1)
    critic_opt.zero_grad()
    (goal - value).pow(2).mean().backward()
    critic_opt.step()
    actor_opt.zero_grad()
    (-d.log_prob(action) * (goal - value).detach()).mean().backward()
    actor_opt.step()
    state = following
