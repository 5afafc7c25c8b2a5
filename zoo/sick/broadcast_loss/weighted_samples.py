# expect: broadcast-loss at weighted_samples.py:29 since step 0
"""Importance weights as a row, losses as a column: every sample is weighted with the weights of all."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, 1)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for step in range(20):
    x, weight = torch.randn(32, 6), torch.rand(32)
    y = (x[:, :1] > 0).float()
    each = F.binary_cross_entropy_with_logits(net(x), y, reduction="none")
    loss = (weight * each).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
