# expect: undivided-accumulation at sixteen_micro_batches.py:18 since step 0
# twin: healthy/loops/accumulation.py
"""Sixteen micro-batches are summed, each a mean: the learning rate is sixteen times what it says."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(model.parameters(), lr=0.05)
for step in range(12):
    optimizer.zero_grad()
    for _ in range(16):
        x = torch.randn(4, 10)
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
