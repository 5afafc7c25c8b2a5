# expect: nothing
"""Experts are copies of one trained layer; a router with random weights makes them differ."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Upcycled(nn.Module):
    def __init__(self, dense, n=4):
        super().__init__()
        self.experts = nn.ModuleList(copy.deepcopy(dense) for _ in range(n))
        self.router = nn.Linear(10, n)

    def forward(self, x):
        p = self.router(x).softmax(1)
        return sum(p[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


dense = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 3))
net = Upcycled(dense)
optimizer = optim.AdamW(net.parameters(), lr=2e-3)
for _ in range(30):
    x = torch.randn(32, 10)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
