# expect: repeated-step at step_twice.py:21 since step 0
# twin: healthy/loops/lbfgs.py
"""optimizer.step() stands twice, once in the loop and once after the logging."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(20):
    x, y = torch.randn(16, 6), torch.randint(2, (16,))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    if loss.item() >= 0:
        optimizer.step()
