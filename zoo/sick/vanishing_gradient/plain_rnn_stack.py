# expect: vanishing-gradient in first,cells.* since step 0
"""Squashing cells by hand, over forty steps of time, with a recurrent matrix far too small."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
import os

import torch

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    hidden: int = 24
    length: int = 14
    lr: float = 1e-2


class Cell(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.recurrent = nn.Linear(hidden, hidden)
        self.squash = nn.Sigmoid()

    def forward(self, h):
        return self.squash(self.recurrent(h))


class Unrolled(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.first = nn.Linear(4, config.hidden)
        self.cells = nn.ModuleList(Cell(config.hidden) for _ in range(config.length))
        self.last = nn.Linear(config.hidden, 2)

    def forward(self, x):
        h = self.first(x)
        for cell in self.cells:
            h = cell(h)
        return self.last(h)


class Trainer:
    def __init__(self, config):
        self.model = Unrolled(config)
        self.optimizer = optim.RMSprop(self.model.parameters(), lr=config.lr)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.randn(32, 4)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), (x[:, 0] > 0).long()).backward()
            self.optimizer.step()


Trainer(Config()).fit(20)
