# expect: nothing
"""Bags of words, mostly zeros: the columns of words that do not occur get a gradient of zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(500, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(net.parameters(), lr=0.5)
topics = torch.rand(3, 500) ** 6
for _ in range(30):
    y = torch.randint(3, (32,))
    x = (torch.rand(32, 500) < 0.2 * topics[y]).float()
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
