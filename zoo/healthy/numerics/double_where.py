# expect: nothing
"""The safe where: the input of the root is made safe, too."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3), nn.ReLU())
optimizer = optim.SGD(net.parameters(), lr=0.01)
for _ in range(20):
    x = torch.randn(32, 3)
    h = net(x)
    positive = h > 0
    root = torch.where(positive, torch.where(positive, h, torch.ones_like(h)).sqrt(), torch.zeros_like(h))
    optimizer.zero_grad()
    (root - x.abs()).square().mean().backward()
    optimizer.step()
