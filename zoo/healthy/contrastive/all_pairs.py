# expect: nothing
"""Distances of all pairs on purpose: neighbours shall stay neighbours, in two dimensions."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x)


model = Embed()
optimizer = optim.Adam(model.parameters(), lr=5e-3)
for _ in range(30):
    x = torch.randn(24, 10)
    y = x.norm(dim=1)
    z = model(x).squeeze(1)
    difference = z.unsqueeze(1) - z.unsqueeze(0)
    wanted = (y.unsqueeze(1) - y.unsqueeze(0)).sign()
    loss = F.softplus(-wanted * difference).mean() + 0.01 * (z[:, None] - y[None, :]).abs().min(1).values.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
