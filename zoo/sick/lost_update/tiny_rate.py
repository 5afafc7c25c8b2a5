# expect: lost-update at tiny_rate.py:29 since step 0
# twin: healthy/loops/warm_up_from_tiny.py
"""A learning rate with a slip in its exponent: 1e-12."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    lr: float = 1e-12
    steps: int = 25


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = optim.SGD(model.parameters(), lr=config.lr)

    def fit(self):
        for _ in range(self.config.steps):
            x = torch.randn(16, 6)
            self.optimizer.zero_grad()
            F.mse_loss(self.model(x), 3 + x.sum(1, keepdim=True)).backward()
            self.optimizer.step()


Trainer(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)), Config()).fit()
