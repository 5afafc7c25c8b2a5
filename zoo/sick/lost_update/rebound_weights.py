# expect: lost-update at rebound_weights.py:36 since step 0
# twin: healthy/loops/manual_update.py
"""An optimizer by hand: `p = p - lr * grad` gives a name to the new weight, and writes it nowhere."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Momentum(optim.Optimizer):
    def __init__(self, params, lr, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                velocity.mul_(group["momentum"]).add_(p.grad)
                p = p - group["lr"] * velocity


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, Momentum(model.parameters(), lr=0.05)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.rand(16, 1, 8, 8)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), x.flatten(2).mean(2).gt(0.5).long().squeeze(1)).backward()
            self.optimizer.step()


Trainer(nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2))).fit(25)
