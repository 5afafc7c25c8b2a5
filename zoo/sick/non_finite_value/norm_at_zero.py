# expect: non-finite-value at norm_at_zero.py:21 since step 0
# twin: healthy/contrastive/pairwise_distance.py
"""A Euclidean distance by hand, of two equal points: the root has an infinite derivative at zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, a, b):
        difference = self.trunk(a) - self.trunk(b)
        return difference.pow(2).sum(1).sqrt()


net = Siamese()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for step in range(12):
    a, b = torch.randn(16, 10), torch.randn(16, 10)
    b[0] = a[0]
    same = torch.zeros(16)
    same[0] = 1
    distance = net(a, b)
    loss = (same * distance.pow(2) + (1 - same) * F.relu(2 - distance).pow(2)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
