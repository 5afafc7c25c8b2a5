# expect: nothing
"""The first Wasserstein GAN: RMSprop, and the critic's weights are clipped through .data after each step."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self):
        self.G = nn.Sequential(nn.Linear(3, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 2), nn.Tanh())
        self.D = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 1))
        self.g_opt = optim.RMSprop(self.G.parameters(), lr=5e-5)
        self.d_opt = optim.RMSprop(self.D.parameters(), lr=5e-5)

    def critic_step(self, real):
        self.D.zero_grad()
        with torch.no_grad():
            fake = self.G(torch.randn(len(real), 3))
        loss = self.D(fake).mean() - self.D(real).mean()
        loss.backward()
        self.d_opt.step()
        for p in self.D.parameters():
            p.data.clamp_(-0.05, 0.05)

    def generator_step(self, n):
        for p in self.D.parameters():
            p.requires_grad = False
        self.G.zero_grad()
        loss = -self.D(self.G(torch.randn(n, 3))).mean()
        loss.backward()
        self.g_opt.step()
        for p in self.D.parameters():
            p.requires_grad = True


trainer = Trainer()
for step in range(30):
    trainer.critic_step(torch.rand(32, 2))
    if step % 3 == 2:
        trainer.generator_step(32)
