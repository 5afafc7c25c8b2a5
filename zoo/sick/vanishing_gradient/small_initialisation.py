# expect: vanishing-gradient in hidden.* since step 0
"""A deep tanh network whose weights are drawn with a standard deviation of 0.01."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MLP(nn.Module):
    def __init__(self, width=64, depth=10):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 1)
        self.reset()

    def reset(self):
        for layer in self.hidden:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.out(x)


model = MLP()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(32, 64)
    optimizer.zero_grad()
    F.mse_loss(model(x), x.mean(1, keepdim=True) * 8).backward()
    optimizer.step()
