# expect: saturated-activation at wide_initialisation.py:22 in a,b since step 0
"""A sigmoid network whose weights are drawn with a standard deviation of ten."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 24), nn.Linear(24, 24), nn.Linear(24, 2)
        for layer in (self.a, self.b):
            nn.init.normal_(layer.weight, std=10.0)
        self.squash = nn.Sigmoid()

    def forward(self, x):
        return self.c(self.squash(self.b(self.squash(self.a(x)))))


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(32, 10)), torch.randint(2, (32,))).backward()
    optimizer.step()
