# expect: oversized-update at rate_thirty.py:28 by step 6
"""SGD with a learning rate of thirty: each step overshoots more than the one before."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    lr: float = 30.0
    width: int = 32
    steps: int = 12


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = optim.SGD(model.parameters(), lr=config.lr)

    def fit(self, x, y):
        for _ in range(self.config.steps):
            self.optimizer.zero_grad()
            F.mse_loss(self.model(x), y).backward()
            self.optimizer.step()


config = Config()
model = nn.Sequential(
    nn.Linear(6, config.width), nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU(), nn.Linear(config.width, 1)
)
x = torch.randn(64, 6)
Trainer(model, config).fit(x, x.sum(1, keepdim=True))
