# expect: edited-weight at noise_through_data.py:23 in a.*,b.* since step 0
"""Noise on the weights for regularisation, added through .data in the wrong place."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))

    def add_noise(self):
        for p in self.parameters():
            p.data.add_(0.05 * torch.randn_like(p))


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(25):
    x = torch.randn(16, 8)
    loss = F.cross_entropy(net(x), x[:, :3].argmax(1))
    net.add_noise()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
