# expect: unused-parameter in auxiliary.* since step 0
# twin: healthy/vision/auxiliary_head.py
"""An auxiliary head that forward never calls."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 20), nn.ReLU())
        self.main = nn.Linear(20, 3)
        self.auxiliary = nn.Linear(20, 3)

    def forward(self, x):
        return self.main(self.body(x))


net = Net()
optimizer = optim.Adam(net.parameters())
for _ in range(15):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(16, 10)), torch.randint(3, (16,))).backward()
    optimizer.step()
