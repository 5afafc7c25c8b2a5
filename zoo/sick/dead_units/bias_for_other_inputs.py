# expect: dead-units at bias_for_other_inputs.py:21 in conv.* since step 0
"""Biases that make up for pixels from 0 to 255, and the images have since been normalised."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.act = nn.ReLU()
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


net = Net()
with torch.no_grad():
    net.conv.bias -= 128 * net.conv.weight.abs().sum((1, 2, 3))
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(30):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(32, 1, 10, 10)), torch.randint(3, (32,))).backward()
    optimizer.step()
