# expect: nothing
"""The head begins at zero: all its rows are equal, and their gradients are not."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 5))
nn.init.zeros_(net[2].weight)
nn.init.zeros_(net[2].bias)
optimizer = optim.SGD(net.parameters(), lr=0.1)
for _ in range(30):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :5].argmax(1)).backward()
    optimizer.step()
