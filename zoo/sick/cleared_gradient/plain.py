# expect: cleared-gradient at plain.py:19 since step 0
# twin: healthy/loops/exactly_zero_loss.py
"""zero_grad stands between backward and step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for i in range(20):
    x, y = torch.randn(16, 8), torch.randint(2, (16,))
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
