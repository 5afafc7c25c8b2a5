# expect: broadcast-loss at time_series_channels.py:20 since step 0
"""Sequences (N, T, 1) against targets (N, T): the last two dimensions are mixed."""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
warnings.simplefilter("ignore")
model = nn.GRU(1, 12, batch_first=True)
head = nn.Linear(12, 1)
net = nn.ModuleList([model, head])
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for _ in range(20):
    x = torch.randn(16, 16).cumsum(1)
    hidden, _ = model(x[:, :, None])
    loss = F.l1_loss(head(hidden), x.roll(-1, 1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
