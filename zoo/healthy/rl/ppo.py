# expect: nothing
"""Proximal policy optimisation: several epochs on one batch, with a clipped ratio and an entropy bonus."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.distributions import Normal


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.zeros(1))
        self.critic = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))

    def policy(self, s):
        return Normal(self.actor(s), self.log_std.exp())


model = ActorCritic()
optimizer = optim.Adam(model.parameters(), lr=3e-3, eps=1e-5)
for iteration in range(5):
    with torch.no_grad():
        s = torch.randn(64, 3)
        d = model.policy(s)
        a = d.sample()
        old = d.log_prob(a).squeeze(1)
        returns = -(a - s.sum(1, keepdim=True)).square().squeeze(1)
        advantage = returns - model.critic(s).squeeze(1)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    for epoch in range(4):
        for i in torch.randperm(64).split(32):
            d = model.policy(s[i])
            ratio = (d.log_prob(a[i]).squeeze(1) - old[i]).exp()
            clipped = torch.min(ratio * advantage[i], ratio.clamp(0.8, 1.2) * advantage[i]).mean()
            value = F.mse_loss(model.critic(s[i]).squeeze(1), returns[i])
            loss = -clipped + 0.5 * value - 0.01 * d.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
