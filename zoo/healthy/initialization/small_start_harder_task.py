# expect: nothing
"""A curriculum: weights begin near zero, and the loss climbs because the targets grow, not because of large steps."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
nn.init.normal_(net[0].weight, std=0.01)
nn.init.zeros_(net[0].bias)
nn.init.zeros_(net[2].weight)
nn.init.zeros_(net[2].bias)
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for step in range(300):
    amplitude = min(3.0, 0.05 + step / 60)
    x = torch.randn(32, 2)
    loss = (net(x) - amplitude * x.abs().sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
