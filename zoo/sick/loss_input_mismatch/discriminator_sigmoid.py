# expect: loss-input-mismatch at discriminator_sigmoid.py:29 since step 0
"""A GAN whose discriminator already ends in a sigmoid."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, x):
        return self.main(x)


G = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
D = Discriminator()
opt_g, opt_d = optim.Adam(G.parameters(), lr=1e-3), optim.Adam(D.parameters(), lr=1e-3)
loss_fn = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(24, 1), torch.zeros(24, 1)
for i in range(20):
    opt_d.zero_grad()
    fake = G(torch.randn(24, 3))
    d_loss = loss_fn(D(torch.randn(24, 2) + 2), ones)
    d_loss = d_loss + loss_fn(D(fake.detach()), zeros)
    d_loss.backward()
    opt_d.step()
    opt_g.zero_grad()
    loss_fn(D(fake), ones).backward()
    opt_g.step()
