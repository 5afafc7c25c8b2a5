# expect: unregistered-parameter at layer_in_forward.py:21 since step 0
"""The output layer is made in forward, when the size of its input is known: a new one in every step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Sensor(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.classes = classes
        self.conv = nn.Conv1d(2, 6, 5, stride=2)

    def forward(self, x):
        h = F.relu(self.conv(x)).flatten(1)
        return nn.Linear(h.size(1), self.classes)(h)


net = Sensor()
optimizer = optim.SGD(net.parameters(), lr=0.05)
for _ in range(20):
    x = torch.randn(16, 2, 30)
    loss = F.cross_entropy(net(x), x[:, :, :3].mean(1).argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
