# expect: symmetric-units in cell.* since step 0
"""A GRU cell by hand whose matrices all begin as constants."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Cell(nn.Module):
    def __init__(self, i, h):
        super().__init__()
        self.w = nn.Parameter(torch.full((h, i), 0.3))
        self.u = nn.Parameter(torch.full((h, h), 0.1))

    def forward(self, x, h):
        return torch.tanh(F.linear(x, self.w) + F.linear(h, self.u))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = Cell(3, 12), nn.Linear(12, 1, bias=False)
        nn.init.constant_(self.out.weight, 0.2)

    def forward(self, x):
        h = torch.zeros(len(x), 12)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.out(h)


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for _ in range(20):
    x = torch.randn(32, 6, 3)
    optimizer.zero_grad()
    F.mse_loss(net(x), x.sum((1, 2))[:, None] / 4).backward()
    optimizer.step()
