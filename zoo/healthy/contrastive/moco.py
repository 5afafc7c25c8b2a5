# expect: nothing
"""Momentum contrast: a queue of keys, a key encoder that is averaged."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
query = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
key = copy.deepcopy(query)
for p in key.parameters():
    p.requires_grad_(False)
queue = F.normalize(torch.randn(128, 8), dim=1)
optimizer = optim.SGD(query.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
for step in range(30):
    x = torch.randn(32, 16)
    q = F.normalize(query(x + 0.1 * torch.randn_like(x)), dim=1)
    with torch.no_grad():
        for pk, pq in zip(key.parameters(), query.parameters()):
            pk.mul_(0.99).add_(pq, alpha=0.01)
        k = F.normalize(key(x), dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.t()], 1) / 0.2
    loss = F.cross_entropy(logits, torch.zeros(32, dtype=torch.long))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    queue = torch.cat([k, queue])[:128]
