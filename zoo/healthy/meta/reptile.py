# expect: nothing
"""Reptile: an inner optimizer on a copy, and the weights are drawn towards what the copy became."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
for iteration in range(8):
    learner = copy.deepcopy(model)
    inner = optim.SGD(learner.parameters(), lr=0.05)
    shift = torch.randn(1)
    for _ in range(6):
        x = torch.rand(16, 1) * 4 - 2
        inner.zero_grad()
        F.mse_loss(learner(x), torch.sin(x + shift)).backward()
        inner.step()
    with torch.no_grad():
        for slow, fast in zip(model.parameters(), learner.parameters()):
            slow.add_(0.3 * (fast - slow))
