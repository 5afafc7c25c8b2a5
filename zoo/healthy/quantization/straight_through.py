# expect: nothing
"""Quantisation-aware training: rounding with a straight-through estimator and a learned step size."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Quantize(nn.Module):
    def __init__(self, levels=15):
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.1))
        self.levels = levels

    def forward(self, x):
        scaled = x / self.step
        clipped = scaled.clamp(-self.levels, self.levels)
        return self.step * (clipped + (clipped.round() - clipped).detach())


class QLinear(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.quantize = Quantize()

    def forward(self, x):
        return F.linear(x, self.quantize(self.weight), self.bias)


model = nn.Sequential(QLinear(10, 32), nn.ReLU(), Quantize(), QLinear(32, 3))
optimizer = optim.SGD(model.parameters(), lr=0.02)
for _ in range(30):
    x = torch.randn(32, 10)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
