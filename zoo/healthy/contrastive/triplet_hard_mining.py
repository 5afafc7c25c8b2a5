# expect: nothing
"""Batch-hard triplets: the hardest are chosen by max and min over masked distances."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.PReLU(), nn.Linear(32, 8))

    def forward(self, x):
        return F.normalize(self.body(x), dim=1)


def batch_hard(z, y, margin=0.3):
    d = torch.cdist(z, z)
    same = y[:, None] == y[None, :]
    hardest_positive = d.masked_fill(~same, 0).max(1).values
    hardest_negative = d.masked_fill(same, float("inf")).min(1).values
    return F.relu(hardest_positive - hardest_negative + margin).mean()


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
centers = torch.randn(6, 16)
for _ in range(25):
    y = torch.arange(24) % 6
    loss = batch_hard(net(centers[y] + 0.5 * torch.randn(24, 16)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
