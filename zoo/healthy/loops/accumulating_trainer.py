# expect: nothing
"""A trainer with accumulation and a last, shorter window at the end of each epoch."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
import os

import torch

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    accumulate: int = 3
    epochs: int = 3
    lr: float = 1e-3


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = optim.AdamW(model.parameters(), lr=config.lr)

    def fit(self, batches):
        for _ in range(self.config.epochs):
            for index, (x, y) in enumerate(batches):
                size = min(
                    self.config.accumulate, len(batches) - index // self.config.accumulate * self.config.accumulate
                )
                (F.cross_entropy(self.model(x), y) / size).backward()
                if (index + 1) % self.config.accumulate == 0 or index + 1 == len(batches):
                    self.optimizer.step()
                    self.optimizer.zero_grad(set_to_none=False)


model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
Trainer(model, Config()).fit([(torch.randn(8, 16), torch.randint(4, (8,))) for _ in range(10)])
