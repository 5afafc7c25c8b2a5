# expect: nothing
"""A first batch sets scale and shift of each layer through .data, then training begins."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class ActNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x):
        if not self.ready:
            self.shift.data.copy_(-x.detach().mean(0))
            self.scale.data.copy_(1 / (x.detach().std(0) + 1e-6))
            self.ready.fill_(True)
        return (x + self.shift) * self.scale


net = nn.Sequential(
    nn.Linear(8, 24), ActNorm(24), nn.Tanh(), nn.Linear(24, 24), ActNorm(24), nn.Tanh(), nn.Linear(24, 1)
)
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(30):
    x = 5 * torch.randn(32, 8)
    optimizer.zero_grad()
    F.mse_loss(net(x), x.mean(1, keepdim=True)).backward()
    optimizer.step()
