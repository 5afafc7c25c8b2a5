# expect: nothing
"""bfloat16 autocast over weights in single precision, with accumulation and clipping."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Conv1d(2, 8, 3), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4))
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
for step in range(30):
    x, y = torch.randn(8, 2, 20), torch.randint(4, (8,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(x), y) / 2
    loss.backward()
    if step % 2:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
