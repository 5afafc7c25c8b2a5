# expect: dead-units at negative_bias.py:17 in 0.*,2.* since step 0
# twin: healthy/efficiency/sparse_coding.py
"""ReLU units whose biases were set to -20."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
nn.init.constant_(net[2].bias, -20.0)
optimizer = optim.SGD(net.parameters(), lr=0.05)
for _ in range(30):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(64, 8)), torch.randint(2, (64,))).backward()
    optimizer.step()
