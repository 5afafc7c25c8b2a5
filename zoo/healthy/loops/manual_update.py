# expect: nothing
"""Plain gradient descent by hand; an optimizer is there for the second half only."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=1e-2)
x = torch.randn(64, 5)
y = x.pow(2).sum(1, keepdim=True)
for step in range(40):
    loss = (model(x) - y).pow(2).mean()
    loss.backward()
    if step < 20:
        with torch.no_grad():
            for p in model.parameters():
                p -= 1e-2 * p.grad
                p.grad.zero_()
    else:
        optimizer.step()
        optimizer.zero_grad()
