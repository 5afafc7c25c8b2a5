# expect: nothing
"""Quantile regression: a column of targets meets a row of quantiles."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
taus = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 5))
optimizer = optim.Adam(net.parameters(), lr=5e-3)
for _ in range(40):
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True) + x[:, :1].abs() * torch.randn(64, 1)
    error = y - net(x)
    loss = torch.maximum(taus * error, (taus - 1) * error).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
