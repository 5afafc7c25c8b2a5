# expect: non-differentiable-op at floor_positions.py:20 in predict.* since step 0
"""A learned position is floored to choose between two embeddings, by interpolation that uses the floor alone."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Locator(nn.Module):
    def __init__(self):
        super().__init__()
        self.predict = nn.Linear(6, 1)
        self.mix = nn.Linear(7, 2)

    def forward(self, x):
        position = torch.floor(10 * torch.sigmoid(self.predict(x))) / 10
        return self.mix(torch.cat([x, position], 1))


class Trainer:
    def __init__(self, model, lr):
        self.model, self.optimizer = model, optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def run(self, steps):
        for _ in range(steps):
            x = torch.randn(32, 6)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), (x[:, 0] > 0).long()).backward()
            self.optimizer.step()


Trainer(Locator(), 0.05).run(20)
