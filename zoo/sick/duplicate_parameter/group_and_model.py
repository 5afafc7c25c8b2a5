# expect: duplicate-parameter at group_and_model.py:26 in 2.* since step 0
"""Two optimizers by accident: a framework makes one for the model, and the user one for the head."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Framework:
    def __init__(self, model):
        self.model = model
        self.optimizers = [optim.SGD(model.parameters(), lr=0.01, momentum=0.9)]

    def add_optimizer(self, optimizer):
        self.optimizers.append(optimizer)

    def step(self, x, y):
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        F.cross_entropy(self.model(x), y).backward()
        for optimizer in self.optimizers:
            optimizer.step()


model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 4))
framework = Framework(model)
framework.add_optimizer(optim.Adam(model[2].parameters(), lr=1e-3))
for _ in range(25):
    x = torch.randn(32, 10)
    framework.step(x, x[:, :4].argmax(1))
