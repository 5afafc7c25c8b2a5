# expect: nothing
"""Four micro-batches for each step, the loss divided, the gradients cleared after the step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for i in range(80):
    loss = F.cross_entropy(model(torch.randn(8, 10)), torch.randint(3, (8,))) / 4
    loss.backward()
    if i % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
