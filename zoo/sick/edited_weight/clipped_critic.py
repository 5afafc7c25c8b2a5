# expect: edited-weight at clipped_critic.py:27 in critic.* since step 0
# twin: healthy/gans/weight_clipped_wgan.py
"""A Wasserstein critic whose weights are clipped between its loss and the backward of it."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class WGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def critic_loss(self, real):
        fake = self.generator(torch.randn(len(real), 3)).detach()
        loss = self.critic(fake).mean() - self.critic(real).mean()
        self.clip_critic()
        return loss

    def clip_critic(self, c=0.05):
        for p in self.critic.parameters():
            p.data.clamp_(-c, c)

    def generator_loss(self, n):
        return -self.critic(self.generator(torch.randn(n, 3))).mean()


gan = WGAN()
opt_c = optim.RMSprop(gan.critic.parameters(), lr=5e-4)
opt_g = optim.RMSprop(gan.generator.parameters(), lr=5e-4)
for _ in range(15):
    for _ in range(2):
        opt_c.zero_grad()
        gan.critic_loss(torch.randn(32, 2) * 0.3 + 1).backward()
        opt_c.step()
    opt_g.zero_grad()
    gan.generator_loss(32).backward()
    opt_g.step()
