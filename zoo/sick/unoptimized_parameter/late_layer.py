# expect: unoptimized-parameter at late_layer.py:37 in growth.* since step 8
"""A layer that is added while training, and never told to the optimizer."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 16), nn.Linear(16, 1)
        self.growth = nn.ModuleList()

    def forward(self, x):
        h = torch.relu(self.first(x))
        for layer in self.growth:
            h = h + torch.relu(layer(h))
        return self.last(h)


class Trainer:
    def __init__(self, model, lr=0.01):
        self.model, self.optimizer = model, optim.SGD(model.parameters(), lr=lr)

    def fit(self, steps, grow_at):
        for step in range(steps):
            if step == grow_at:
                self.model.growth.append(nn.Linear(16, 16))
            x = torch.randn(16, 5)
            self.optimizer.zero_grad()
            F.mse_loss(self.model(x), x.prod(1, keepdim=True)).backward()
            self.optimizer.step()


Trainer(Growing()).fit(steps=30, grow_at=8)
