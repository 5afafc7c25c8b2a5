# expect: nothing
"""Proximal gradient descent: after each step weights are shrunk to exactly zero, and many stay there."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Linear(40, 1)
optimizer = optim.SGD(net.parameters(), lr=0.05)
truth = torch.zeros(40, 1)
truth[:4] = torch.tensor([[2.0], [-1.0], [1.5], [-2.0]])
for _ in range(60):
    x = torch.randn(64, 40)
    optimizer.zero_grad()
    F.mse_loss(net(x), x @ truth).backward()
    optimizer.step()
    with torch.no_grad():
        net.weight.copy_(net.weight.sign() * (net.weight.abs() - 0.01).clamp(min=0))
