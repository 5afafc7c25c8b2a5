# expect: oversized-update at percent_as_a_rate.py:35 by step 12
# twin: healthy/optimizers/fresh_head_high_rate.py
"""The rate was meant in thousandths: AdamW with 3 on a network for images."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class ConvNet(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 24, 3, stride=2)
        self.fc1, self.fc2 = nn.Linear(24 * 16, 32), nn.Linear(32, classes)

    def features(self, x):
        return F.elu(self.conv2(F.elu(self.conv1(x)))).flatten(1)

    def forward(self, x):
        return self.fc2(F.elu(self.fc1(self.features(x))))


prototypes = torch.rand(6, 1, 12, 12)
net = ConvNet()
optimizer = optim.AdamW(net.parameters(), lr=3.0)
for _ in range(25):
    label = torch.randint(6, (32,))
    image = prototypes[label] + 0.2 * torch.randn(32, 1, 12, 12)
    optimizer.zero_grad()
    F.cross_entropy(net(image), label).backward()
    optimizer.step()
