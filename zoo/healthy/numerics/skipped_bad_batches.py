# expect: nothing
"""A loop that looks at its loss and leaves out a batch that is not finite."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
data = torch.randn(300, 5)
data[77, 2] = float("inf")
model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=0.05)
for start in range(0, 300, 10):
    x = data[start : start + 10]
    loss = F.mse_loss(model(x), x.nan_to_num(0, 0, 0).sum(1, keepdim=True))
    if not torch.isfinite(loss):
        continue
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
