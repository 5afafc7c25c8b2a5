# expect: nothing
"""A Wasserstein GAN with a gradient penalty, five critic steps for one of the generator."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)
        )

    def forward(self, x):
        return self.net(x)

    def penalty(self, real, fake):
        t = torch.rand(len(real), 1)
        mixed = (t * real + (1 - t) * fake).requires_grad_(True)
        (grad,) = torch.autograd.grad(self(mixed).sum(), mixed, create_graph=True)
        return (grad.norm(dim=1) - 1).square().mean()


G, D = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2)), Critic()
g_opt = optim.Adam(G.parameters(), lr=1e-4, betas=(0.0, 0.9))
d_opt = optim.Adam(D.parameters(), lr=1e-4, betas=(0.0, 0.9))
for step in range(40):
    real = torch.randn(32, 2).abs()
    fake = G(torch.randn(32, 2)).detach()
    d_opt.zero_grad()
    (D(fake).mean() - D(real).mean() + 10 * D.penalty(real, fake)).backward()
    d_opt.step()
    if step % 5 == 4:
        g_opt.zero_grad()
        (-D(G(torch.randn(32, 2))).mean()).backward()
        g_opt.step()
