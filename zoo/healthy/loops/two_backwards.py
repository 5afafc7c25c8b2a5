# expect: nothing
"""Two different losses, a backward for each, one step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
trunk = nn.Linear(6, 12)
classify, reconstruct = nn.Linear(12, 3), nn.Linear(12, 6)
model = nn.ModuleList([trunk, classify, reconstruct])
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(30):
    x, y = torch.randn(20, 6), torch.randint(3, (20,))
    optimizer.zero_grad()
    h = torch.relu(trunk(x))
    F.cross_entropy(classify(h), y).backward(retain_graph=True)
    F.mse_loss(reconstruct(h), x).backward()
    optimizer.step()
