# expect: detached-tensor at retensored_losses.py:19 since step 0
# twin: healthy/loops/logged_items.py
"""Parts of the loss are collected with item() and made a tensor again: there is nothing to go back through."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = optim.SGD(model.parameters(), lr=0.01)
for step in range(5):
    optimizer.zero_grad()
    parts = []
    for _ in range(3):
        output = model(torch.randn(10, 4))
        parts.append(F.mse_loss(output, torch.zeros(10, 2)).item())
    loss = torch.tensor(parts, requires_grad=True).mean()
    loss.backward()
    optimizer.step()
