# expect: repeated-step at trainer_accumulates_wrongly.py:27 since step 2
"""Accumulation: the backward is inside of the condition, and the step is outside of it."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model, every):
        self.model, self.every = model, every
        self.optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def fit(self, batches):
        waiting = []
        for index, batch in enumerate(batches, 1):
            waiting.append(batch)
            if index % self.every == 0:
                self.optimizer.zero_grad()
                x, y = (torch.cat(parts) for parts in zip(*waiting))
                F.mse_loss(self.model(x), y).backward()
                waiting.clear()
            self.optimizer.step()


net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1))
Trainer(net, 3).fit([(x := torch.randn(16, 6), x.sum(1, keepdim=True)) for _ in range(36)])
