# expect: nothing
"""A step is left out when the norm of the gradients is not finite."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1))
optimizer = optim.Adam(model.parameters(), lr=1e-2)
skipped = 0
for step in range(40):
    x = torch.randn(32, 6)
    y = x.sum(1, keepdim=True)
    if step % 13 == 12:
        y[0] = float("inf")
    optimizer.zero_grad(set_to_none=True)
    F.mse_loss(model(x), y).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        skipped += 1
        continue
    optimizer.step()
print(skipped)
