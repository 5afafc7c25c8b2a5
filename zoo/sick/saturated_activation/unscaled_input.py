# expect: saturated-activation at unscaled_input.py:16 in 0,2 since step 0
"""Features in the thousands go straight into a tanh network."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = optim.SGD(model.parameters(), lr=0.01)
for _ in range(25):
    x = 5000 * torch.rand(32, 6)
    optimizer.zero_grad()
    F.mse_loss(model(x), x.mean(1, keepdim=True) / 5000).backward()
    optimizer.step()
