# expect: shape-mismatch at other_features.py:32 in 0 since step 0
"""The configuration says twelve features, and the loader has since been given two more."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    features: int = 12
    width: int = 24
    lr: float = 0.05
    epochs: int = 2


class Trainer:
    def __init__(self, config, loader):
        self.config, self.loader = config, loader
        self.model = nn.Sequential(nn.LayerNorm(config.features), nn.Linear(config.features, config.width))
        self.head = nn.Linear(config.width, 1)
        self.optimizer = optim.SGD([*self.model.parameters(), *self.head.parameters()], lr=config.lr)

    def training_step(self, batch):
        rows, price = batch
        h = torch.relu(self.model(rows))
        return F.mse_loss(self.head(h).squeeze(1), price)

    def fit(self):
        for _ in range(self.config.epochs):
            for batch in self.loader:
                self.optimizer.zero_grad()
                self.training_step(batch).backward()
                self.optimizer.step()


houses = torch.randn(96, 12)
calendar = torch.randn(96, 2)
table = TensorDataset(torch.cat([houses, calendar], 1), houses.sum(1))
Trainer(Config(), DataLoader(table, batch_size=16)).fit()
