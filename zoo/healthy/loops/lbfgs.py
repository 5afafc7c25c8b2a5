# expect: nothing
"""L-BFGS: the closure clears and goes back several times within one step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 1))
x = torch.rand(50, 2) * 4 - 2
y = (x[:, :1] * x[:, 1:]).sin()
optimizer = optim.LBFGS(model.parameters(), lr=0.5, max_iter=8, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    return loss


for _ in range(12):
    print(optimizer.step(closure).item())
