# expect: shape-mismatch at transposed_input.py:17 since step 0
"""Channels last, where the first layer wants features: a transposition is missing."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.Adam(model.parameters())
x = torch.randn(12, 40)  # features, samples
y = torch.randn(40, 1)
for _ in range(3):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
