# expect: broadcast-loss at broadcast_and_no_grad.py:32 since step 0
# expect: detached-tensor at broadcast_and_no_grad.py:20 in features.* since step 0
"""A loss that broadcasts, and features under no_grad."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.out = nn.Sequential(nn.Linear(5, 16), nn.Tanh()), nn.Linear(16, 1)

    def forward(self, x):
        with torch.no_grad():
            h = self.features(x)
        return self.out(h)


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, optim.Adam(model.parameters(), lr=1e-3)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.randn(32, 5)
            self.optimizer.zero_grad()
            ((self.model(x) - x.sum(1)) ** 2).mean().backward()
            self.optimizer.step()


Trainer(Regressor()).fit(20)
