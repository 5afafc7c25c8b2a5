# expect: loss-input-mismatch at nll_of_probabilities.py:43 since step 0
# twin: healthy/rl/reinforce.py
"""NLLLoss on probabilities: the loss is negative, and goes on falling."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
import os

import torch

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    hidden: int = 24
    classes: int = 5
    lr: float = 1e-2


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gru = nn.GRU(7, config.hidden, batch_first=True)
        self.out = nn.Linear(config.hidden, config.classes)

    def forward(self, x):
        return self.out(self.gru(x)[0][:, -1]).softmax(-1)


class Trainer:
    criterion = nn.NLLLoss()

    def __init__(self, config):
        self.model = Model(config)
        self.optimizer = optim.SGD(self.model.parameters(), lr=config.lr)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()


trainer = Trainer(Config())
print([trainer.step(torch.randn(16, 9, 7), torch.randint(5, (16,))) for _ in range(15)][-1])
