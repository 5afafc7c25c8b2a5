# expect: edited-weight at data_between.py:19 since step 0
# twin: healthy/loops/ema_weights.py
"""Weights are clamped through .data between forward and backward, so the gradients belong to other weights."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(25):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), x.sum(1, keepdim=True))
    for p in model.parameters():
        p.data.clamp_(-0.1, 0.1)
    loss.backward()
    optimizer.step()
