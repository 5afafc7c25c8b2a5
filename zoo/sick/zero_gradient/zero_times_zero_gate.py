# expect: zero-gradient at zero_times_zero_gate.py:23 in [12].* since step 0
# twin: healthy/vision/resnet.py
"""A residual branch whose gate and last layer both begin at zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.gate = nn.Parameter(torch.zeros(1))
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.gate * self.down(F.gelu(self.up(self.norm(x))))


net = nn.Sequential(nn.Linear(8, 16), Block(16), Block(16), nn.Linear(16, 3))
optimizer = optim.SGD(net.parameters(), lr=0.1)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(16, 8)), torch.randint(3, (16,))).backward()
    optimizer.step()
