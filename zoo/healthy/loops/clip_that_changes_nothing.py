# expect: nothing
"""Clipping before the step, with a limit that is never met."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.LSTM(4, 12, batch_first=True)
head = nn.Linear(12, 1)
net = nn.ModuleList([model, head])
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(8, 10, 4)
    optimizer.zero_grad()
    F.mse_loss(head(model(x)[0][:, -1]), x.mean((1, 2)).unsqueeze(1)).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1e6)
    optimizer.step()
