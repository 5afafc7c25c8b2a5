# expect: stale-optimizer at deepcopied_model.py:20 in [02].* since step 0
# twin: healthy/gans/plain_gan.py
"""The optimizer was made for the model; a copy of it is what trains."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
trained = copy.deepcopy(model)
for _ in range(20):
    x, y = torch.randn(16, 6), torch.randint(2, (16,))
    optimizer.zero_grad()
    F.cross_entropy(trained(x), y).backward()
    optimizer.step()
