# expect: nothing
"""Barlow Twins: a cross-correlation matrix against the identity."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
normalize = nn.BatchNorm1d(16, affine=False)
for _ in range(25):
    x = torch.randn(64, 12)
    a, b = net(x + 0.2 * torch.randn_like(x)), net(x + 0.2 * torch.randn_like(x))
    c = normalize(a).T @ normalize(b) / 64
    on = (torch.diagonal(c) - 1).square().sum()
    off = c.flatten()[:-1].view(15, 17)[:, 1:].square().sum()
    optimizer.zero_grad()
    (on + 5e-3 * off).backward()
    optimizer.step()
