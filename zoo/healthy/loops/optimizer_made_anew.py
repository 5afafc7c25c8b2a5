# expect: nothing
"""Each phase makes an optimizer of its own for the same model."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


def fit(model, optimizer, steps):
    for _ in range(steps):
        x = torch.randn(32, 8)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        optimizer.step()


model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
for make, lr in ((optim.Adam, 1e-2), (optim.SGD, 1e-2), (optim.RMSprop, 1e-3)):
    fit(model, make(model.parameters(), lr=lr), 12)
