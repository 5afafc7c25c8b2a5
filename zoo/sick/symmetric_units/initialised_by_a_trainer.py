# expect: symmetric-units in [02].weight since step 0
# twin: healthy/initialization/data_dependent.py
"""A trainer initialises the models it is given, and its default is a constant for weights and biases alike."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    init: str = "constant"
    init_value: float = 0.05
    lr: float = 0.02
    steps: int = 25


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        model.apply(self.initialise)
        self.optimizer = optim.SGD(model.parameters(), lr=config.lr, momentum=0.9)

    def initialise(self, module):
        for p in module.parameters(recurse=False):
            if self.config.init == "constant":
                nn.init.constant_(p, self.config.init_value)
            elif p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def fit(self, batch):
        for _ in range(self.config.steps):
            x, y = batch()
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()


def batch():
    x = torch.rand(32, 1, 10, 10)
    return x, (x[:, 0, :5].mean((1, 2)) > x[:, 0, 5:].mean((1, 2))).long()


cnn = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2))
Trainer(cnn, Config()).fit(batch)
