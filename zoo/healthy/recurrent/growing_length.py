# expect: nothing
"""A curriculum: sequences grow longer step by step, and so does the graph."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
cell, head = nn.GRUCell(2, 16), nn.Linear(16, 1)
net = nn.ModuleDict({"cell": cell, "head": head})
optimizer = optim.Adam(net.parameters(), lr=3e-3)
for step in range(30):
    length = 4 + step
    x = torch.randn(16, length, 2)
    h = torch.zeros(16, 16)
    for t in range(length):
        h = cell(x[:, t], h)
    loss = F.mse_loss(head(h), x.prod(2).sum(1, keepdim=True) / length**0.5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
