# expect: nothing
"""Noise is added to the gradients, and they are centralised, between backward and step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(net.parameters(), lr=0.1)
for step in range(40):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    for p in net.parameters():
        if p.dim() > 1:
            p.grad.sub_(p.grad.mean(1, keepdim=True))
        p.grad.add_(0.01 / (1 + step) ** 0.55 * torch.randn_like(p.grad))
    optimizer.step()
