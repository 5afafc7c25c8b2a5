# expect: nothing
"""A hinge loss that is exactly zero for many batches, and so are the gradients."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Linear(4, 1)
optimizer = optim.SGD(model.parameters(), lr=0.5)
for i in range(60):
    y = torch.randint(2, (16,)).float() * 2 - 1
    x = 3 * y[:, None] * torch.tensor([1.0, -1, 2, 0.5]) + 0.1 * torch.randn(16, 4)
    loss = F.relu(1 - y * model(x).squeeze(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
