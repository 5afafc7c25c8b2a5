# expect: nothing
"""Outliers a thousand times as large: single batches whose gradients spike, and clipping by norm."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model, clip):
        self.model, self.clip = model, clip
        self.optimizer = optim.Adam(model.parameters(), lr=1e-2)
        self.norms = []

    def step(self, x, y):
        self.optimizer.zero_grad()
        F.mse_loss(self.model(x), y).backward()
        self.norms.append(nn.utils.clip_grad_norm_(self.model.parameters(), self.clip).item())
        self.optimizer.step()


trainer = Trainer(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)), clip=5.0)
for i in range(50):
    x = torch.randn(16, 4)
    y = x.sum(1, keepdim=True)
    if i % 17 == 16:
        y[0] *= 1000
    trainer.step(x, y)
