# expect: unzeroed-gradient at trainer_flag.py:39 since step 1
# twin: healthy/loops/accumulating_trainer.py
"""A trainer with accumulation: the branch that clears the gradients is written for another condition."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
import os

import torch

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    accumulate: int = 2
    steps: int = 24
    lr: float = 3e-4
    log_every: int = 8


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = optim.AdamW(model.parameters(), lr=config.lr)

    def training_step(self, batch):
        x, y = batch
        return F.cross_entropy(self.model(x), y) / self.config.accumulate

    def fit(self, batches):
        for index, batch in enumerate(batches, start=1):
            self.training_step(batch).backward()
            if index % self.config.accumulate == 0:
                self.optimizer.step()
            if index % self.config.log_every == 0:
                self.optimizer.zero_grad()


model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
config = Config()
data = [(torch.randn(8, 16), torch.randint(4, (8,))) for _ in range(config.steps)]
Trainer(model, config).fit(data)
