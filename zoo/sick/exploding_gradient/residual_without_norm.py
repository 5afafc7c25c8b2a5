# expect: exploding-gradient in first,blocks.* since step 0
# twin: healthy/initialization/rezero.py
"""Residual blocks without norms, with weights that make each one triple its input."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)
        nn.init.kaiming_normal_(self.a.weight, a=0)
        nn.init.normal_(self.b.weight, std=(6 / d) ** 0.5)

    def forward(self, x):
        return x + self.b(F.relu(self.a(x)))


class Net(nn.Module):
    def __init__(self, d=32, depth=16):
        super().__init__()
        self.first = nn.Linear(8, d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(depth))
        self.last = nn.Linear(d, 1)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, optim.SGD(model.parameters(), lr=0.01)

    def fit(self, steps):
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.randn(32, 8)).abs().mean().backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()


Trainer(Net()).fit(12)
