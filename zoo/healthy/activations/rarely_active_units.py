# expect: nothing
"""A wide ReLU layer with a negative bias: each unit fires for a few samples in a hundred, and learns from those."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 4))
nn.init.constant_(net[0].bias, -0.7)
optimizer = optim.Adam(net.parameters(), lr=3e-3)
for _ in range(40):
    x = torch.randn(128, 16)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
