# expect: non-differentiable-op at accuracy_loss.py:15 since step 0
"""Accuracy as the loss: a comparison has no derivative, so there is nothing to go back through."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Linear(6, 2)
optimizer = optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    x, y = torch.randn(20, 6), torch.randint(2, (20,))
    optimizer.zero_grad()
    correct = model(x).argmax(1) == y
    loss = 1 - correct.float().mean()
    loss.backward()
    optimizer.step()
