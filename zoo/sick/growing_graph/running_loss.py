# expect: growing-graph at running_loss.py:22 since step 1
# twin: healthy/loops/logged_items.py
"""A running total of the loss that keeps the graph, and is what goes back."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model, lr=1e-3):
        self.model, self.total = model, 0.0
        self.optimizer = optim.SGD(model.parameters(), lr=lr)

    def step(self, x, y, index):
        self.total = self.total + F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        (self.total / (index + 1)).backward(retain_graph=True)
        self.optimizer.step()


trainer = Trainer(nn.Sequential(nn.Linear(6, 3)))
for index in range(20):
    trainer.step(torch.randn(8, 6), torch.randint(3, (8,)), index)
