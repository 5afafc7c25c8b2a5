# expect: vanishing-gradient since step 0
# twin: healthy/regression/converged.py
"""Twelve layers of sigmoids."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
layers = []
for _ in range(12):
    layers += [nn.Linear(32, 32), nn.Sigmoid()]
model = nn.Sequential(*layers, nn.Linear(32, 2))
optimizer = optim.SGD(model.parameters(), lr=0.1)
for step in range(25):
    x = torch.randn(64, 32)
    y = (x.sum(1) > 0).long()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
