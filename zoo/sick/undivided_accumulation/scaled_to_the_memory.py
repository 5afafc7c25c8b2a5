# expect: undivided-accumulation at scaled_to_the_memory.py:30 since step 0
# twin: healthy/loops/accumulating_trainer.py
"""The batch is split to fit into memory, and the gradient, four times too large, is clipped."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    batch_size: int = 32
    micro_batch_size: int = 8
    max_norm: float = 1.0
    lr: float = 1e-3
    steps: int = 12


class Trainer:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = optim.AdamW(model.parameters(), lr=config.lr)

    def compute_loss(self, x, y):
        return F.huber_loss(self.model(x), y)

    def train_step(self, x, y):
        self.optimizer.zero_grad()
        for micro in zip(x.split(self.config.micro_batch_size), y.split(self.config.micro_batch_size)):
            self.compute_loss(*micro).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self.optimizer.step()

    def train(self):
        for _ in range(self.config.steps):
            x = torch.randn(self.config.batch_size, 9)
            self.train_step(x, x.square().sum(1, keepdim=True))


Trainer(nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 1)), Config()).train()
