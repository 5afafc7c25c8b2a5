# expect: nothing
"""Accumulation over micro-batches of unequal length: the sum over tokens, divided by the number of all tokens."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 30))
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for step in range(15):
    batches = [torch.randint(30, (4, int(n))) for n in torch.randint(3, 15, (4,))]
    total = sum(b[:, 1:].numel() for b in batches)
    optimizer.zero_grad()
    for b in batches:
        loss = F.cross_entropy(model(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten(), reduction="sum") / total
        loss.backward()
    optimizer.step()
