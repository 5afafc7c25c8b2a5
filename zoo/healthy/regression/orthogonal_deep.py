# expect: nothing
"""Fifteen layers of tanh with orthogonal weights."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Deep(nn.Module):
    def __init__(self, depth=15, width=32):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, 1)
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.out(x)


net = Deep()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(25):
    x = 0.5 * torch.randn(32, 32)
    optimizer.zero_grad()
    F.mse_loss(net(x), x.mean(1, keepdim=True)).backward()
    optimizer.step()
