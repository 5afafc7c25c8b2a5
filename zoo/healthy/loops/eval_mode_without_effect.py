# expect: nothing
"""Eval mode is left on, in a model that has neither dropout nor batch norm: it makes no difference."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(6, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 1))
optimizer = optim.Adam(net.parameters(), lr=1e-2)
net.eval()
for _ in range(25):
    x = torch.randn(32, 6)
    optimizer.zero_grad()
    F.mse_loss(net(x), x[:, :1].cos()).backward()
    optimizer.step()
