# expect: stale-optimizer at replaced_head.py:29 in head.* since step 0
"""The head is replaced for a new number of classes, after the optimizer was made."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        return self.head(self.body(x))


net = Net(1000)
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
net.head = nn.Linear(6, 4)
for _ in range(20):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.randint(4, (8,))).backward()
    optimizer.step()
