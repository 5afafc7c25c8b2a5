# expect: nothing
"""Magnitude pruning with torch.nn.utils.prune, in between; pruned weights get no gradient any more."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.nn.utils import prune

net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(net.parameters(), lr=0.05)
for step in range(30):
    if step in (8, 16):
        for m in net:
            if isinstance(m, nn.Linear):
                prune.l1_unstructured(m, "weight", amount=0.5)
        optimizer = optim.SGD(net.parameters(), lr=0.05)
    x = torch.randn(32, 10)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
