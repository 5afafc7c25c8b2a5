# expect: nothing
"""A neural ODE by the midpoint rule: one field runs sixteen times in each forward."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, x):
        return self.net(x)


class Flow(nn.Module):
    def __init__(self, steps=8):
        super().__init__()
        self.field, self.steps = Field(), steps

    def forward(self, x):
        dt = 1 / self.steps
        for _ in range(self.steps):
            k1 = self.field(x)
            k2 = self.field(x + dt / 2 * k1)
            x = x + dt * k2
        return x


flow = Flow()
optimizer = optim.Adam(flow.parameters(), lr=5e-3)
turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
for _ in range(20):
    x = torch.randn(32, 2)
    optimizer.zero_grad()
    F.mse_loss(flow(x), x @ turn).backward()
    optimizer.step()
