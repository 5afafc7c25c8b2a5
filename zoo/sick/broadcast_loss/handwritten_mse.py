# expect: broadcast-loss at handwritten_mse.py:17 since step 0
# twin: healthy/contrastive/all_pairs.py
"""Mean squared error by hand: predictions (N, 1) minus targets (N,)."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
x = torch.rand(64, 4)
y = x.sum(dim=1) + 0.05 * torch.randn(64)
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=0.05)
for epoch in range(20):
    y_hat = model(x)
    loss = ((y_hat - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
