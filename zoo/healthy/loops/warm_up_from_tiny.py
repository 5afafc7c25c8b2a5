# expect: nothing
"""A linear warm-up that begins at 1e-7."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Linear(64, 5))
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
warm_up = optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 1e-4 * 1.3**step))
for step in range(45):
    x = torch.randn(32, 10)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :5].argmax(1)).backward()
    optimizer.step()
    warm_up.step()
