# expect: undivided-accumulation at trainer.py:21 since step 0
# twin: healthy/loops/accumulating_trainer.py
"""A trainer that accumulates eight batches and forgets to divide."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model, accumulate):
        self.model, self.accumulate = model, accumulate
        self.optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def fit(self, batches):
        for index, (x, y) in enumerate(batches, 1):
            F.mse_loss(self.model(x), y).backward()
            if index % self.accumulate == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()


net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))
Trainer(net, 8).fit([(x := torch.randn(8, 1, 10), x.mean(2)) for _ in range(96)])
