# expect: nothing
"""A siamese network with F.pairwise_distance; some pairs are equal."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
trunk = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = optim.Adam(trunk.parameters(), lr=1e-3)
for step in range(25):
    a = torch.randn(16, 10)
    same = torch.rand(16) < 0.4
    b = torch.where(same[:, None], a, torch.randn(16, 10))
    distance = F.pairwise_distance(trunk(a), trunk(b))
    y = same.float()
    loss = (y * distance.square() + (1 - y) * F.relu(1 - distance).square()).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
