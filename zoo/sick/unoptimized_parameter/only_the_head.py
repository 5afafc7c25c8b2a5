# expect: unoptimized-parameter at only_the_head.py:29 in backbone.* since step 0
# twin: healthy/transfer/linear_probe.py
"""The optimizer has the head only; the backbone gets gradients, and nobody uses them."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.backbone(x))


net = Net()
optimizer = optim.Adam(net.head.parameters(), lr=1e-3)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(16, 12)), torch.randint(4, (16,))).backward()
    optimizer.step()
