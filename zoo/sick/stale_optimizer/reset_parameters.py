# expect: stale-optimizer at reset_parameters.py:36 in [02].* since step 0
"""Weights are made anew as Parameters by a reset, after the optimizer has taken the old ones."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Layer(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.i, self.o = i, o
        self.reset()

    def reset(self):
        self.weight = nn.Parameter(torch.randn(self.o, self.i) / self.i**0.5)
        self.bias = nn.Parameter(torch.zeros(self.o))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


net = nn.Sequential(Layer(8, 24), nn.ReLU(), Layer(24, 3))
optimizer = optim.SGD(net.parameters(), lr=0.1)
for m in net:
    if isinstance(m, Layer):
        m.reset()
for _ in range(25):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
