# expect: unzeroed-gradient at manual_update.py:20 since step 1
# twin: healthy/loops/manual_update.py
"""An update written by hand: the weights move under no_grad, the gradients stay."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
placeholder = optim.SGD(model.parameters(), lr=0.0)  # for the schedule and the checkpoint only
x = torch.randn(64, 5)
y = x.pow(2).sum(1, keepdim=True)
for step in range(25):
    loss = (model(x) - y).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 1e-3 * p.grad
