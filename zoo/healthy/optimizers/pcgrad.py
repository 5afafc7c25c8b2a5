# expect: nothing
"""Gradient surgery: one backward for each task, conflicts are projected away, and the sum is what is stepped."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 24), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(24, 1) for _ in range(2))

    def forward(self, x):
        h = self.trunk(x)
        return [head(h).squeeze(1) for head in self.heads]


net = Net()
shared = list(net.trunk.parameters())
optimizer = optim.Adam(net.parameters(), lr=3e-3)
for _ in range(30):
    x = torch.randn(32, 6)
    a, b = net(x)
    losses = [F.mse_loss(a, x.sum(1)), F.mse_loss(b, x.prod(1))]
    optimizer.zero_grad()
    kept = []
    for loss in losses:
        for p in shared:
            p.grad = None
        loss.backward(retain_graph=True)
        kept.append(torch.cat([p.grad.flatten() for p in shared]))
    dot = kept[0] @ kept[1]
    if dot < 0:
        kept[0] = kept[0] - dot / kept[1].square().sum() * kept[1]
    total, start = kept[0] + kept[1], 0
    for p in shared:
        p.grad = total[start : start + p.numel()].view_as(p).clone()
        start += p.numel()
    optimizer.step()
