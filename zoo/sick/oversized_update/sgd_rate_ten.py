# expect: oversized-update at sgd_rate_ten.py:18 by step 12
# twin: healthy/loops/warm_restarts.py
"""SGD with a learning rate of ten, in a classifier that saturates."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
optimizer = optim.SGD(model.parameters(), lr=10.0)
for step in range(30):
    x = torch.randn(32, 10)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :5].argmax(1)).backward()
    optimizer.step()
