# expect: nothing
"""A deep equilibrium model: the fixed point is found without grad mode, and one more iteration carries the gradient."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class DEQ(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.inject, self.cell, self.out = nn.Linear(8, d), nn.Linear(d, d), nn.Linear(d, 3)
        with torch.no_grad():
            self.cell.weight.mul_(0.5)

    def f(self, z, x):
        return torch.tanh(self.cell(z) + x)

    def forward(self, x):
        x = self.inject(x)
        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(15):
                z = self.f(z, x)
        return self.out(self.f(z, x))


net = DEQ()
optimizer = optim.AdamW(net.parameters(), lr=3e-3)
for _ in range(25):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
