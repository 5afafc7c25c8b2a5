# expect: nothing
"""A regression that has converged: all gradients are tiny, and all alike."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
torch.set_default_dtype(torch.float32)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
x = torch.randn(64, 4)
with torch.no_grad():
    y = model(x) + 1e-7 * torch.randn(64, 1)
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(60):
    optimizer.zero_grad()
    F.mse_loss(model(x), y).backward()
    optimizer.step()
