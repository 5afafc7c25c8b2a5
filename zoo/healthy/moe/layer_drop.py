# expect: nothing
"""Layers are dropped at random in training; each is used now and then."""

import os
import random

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU()) for _ in range(5))
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            if not self.training or random.random() > 0.5:
                x = x + layer(x)
        return self.out(x)


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(16, 8)), torch.randint(2, (16,))).backward()
    optimizer.step()
