# expect: unregistered-parameter at python_list.py:24 in layers* since step 0
# twin: healthy/vision/vision_transformer.py
"""Layers in a Python list are unknown to parameters()."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.layers = [nn.Linear(16, 16) for _ in range(3)]
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        x = F.relu(self.first(x))
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.out(x)


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.1)
for _ in range(20):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(16, 8)), torch.randint(2, (16,))).backward()
    optimizer.step()
