# expect: nothing
"""ReZero: each branch is scaled by a number that begins at zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.alpha * self.b(F.relu(self.a(x)))


net = nn.Sequential(nn.Linear(8, 32), *(Block(32) for _ in range(8)), nn.Linear(32, 4))
optimizer = optim.Adam(net.parameters(), lr=3e-3)
for _ in range(30):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
