# expect: loss-input-mismatch at softmax_cross_entropy.py:17 since step 0
# twin: healthy/efficiency/distillation.py
"""Softmax at the end of the network, cross_entropy outside of it."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(dim=1))
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(20):
    x, y = torch.randn(32, 16), torch.randint(10, (32,))
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
