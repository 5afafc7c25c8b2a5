# expect: nothing
"""Prototypical networks: classes are the means of their support."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 8))
optimizer = optim.Adam(encoder.parameters(), lr=1e-3)
for episode in range(25):
    centers = torch.randn(5, 12)
    support = centers[:, None] + 0.3 * torch.randn(5, 3, 12)
    query = centers[:, None] + 0.3 * torch.randn(5, 4, 12)
    prototypes = encoder(support).mean(1)
    logits = -torch.cdist(encoder(query).flatten(0, 1), prototypes).square()
    optimizer.zero_grad()
    F.cross_entropy(logits, torch.arange(5).repeat_interleave(4)).backward()
    optimizer.step()
