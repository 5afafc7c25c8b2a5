# expect: nothing
"""A cosine schedule that ends at exactly zero, and a few steps more."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(8, 24), nn.SiLU(), nn.Linear(24, 2))
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
for step in range(33):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
    optimizer.step()
    if step < 30:
        schedule.step()
