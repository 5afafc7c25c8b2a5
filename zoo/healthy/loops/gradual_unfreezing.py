# expect: nothing
"""Layers are unfrozen one after the other, each with a new parameter group."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
model.requires_grad_(False)
model[4].requires_grad_(True)
optimizer = optim.Adam(model[4].parameters(), lr=1e-2)
for epoch in range(3):
    for _ in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(16, 8)), torch.randint(3, (16,))).backward()
        optimizer.step()
    if epoch < 2:
        layer = model[2 - 2 * epoch]
        layer.requires_grad_(True)
        optimizer.add_param_group({"params": layer.parameters(), "lr": 1e-3})
