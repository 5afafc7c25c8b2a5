# expect: nothing
"""A fresh head that begins at zero and learns a hundred times as fast: its first updates are as large as it is."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
body = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
head = nn.Linear(32, 4)
nn.init.zeros_(head.weight)
nn.init.zeros_(head.bias)
model = nn.Sequential(body, head)
optimizer = optim.Adam([{"params": body.parameters(), "lr": 1e-4}, {"params": head.parameters(), "lr": 1e-2}])
for _ in range(40):
    x = torch.randn(32, 12)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
