# expect: saturated-activation at hard_sigmoid_gates.py:24 in gate since step 0
"""Gates on raw pixel values from 0 to 255."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.gate, self.squash, self.out = (
            nn.Linear(16, 24),
            nn.Linear(16, 24),
            nn.Sigmoid(),
            nn.Linear(24, 3),
        )

    def forward(self, x):
        return self.out(self.squash(self.gate(x)) * torch.tanh(self.value(x / 255)))


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, optim.RMSprop(model.parameters(), lr=1e-4)

    def fit(self, steps):
        for _ in range(steps):
            x = 255 * torch.rand(32, 16)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), x[:, :3].argmax(1)).backward()
            self.optimizer.step()


Trainer(Gated()).fit(25)
