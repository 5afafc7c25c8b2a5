# expect: shape-mismatch at flatten_size.py:21 in fc since step 0
"""The size after pooling was computed for images of another size."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5)
        self.fc = nn.Linear(6 * 14 * 14, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.fc(x.flatten(1))


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.01)
for i in range(3):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(torch.randn(4, 3, 28, 28)), torch.randint(10, (4,)))
    loss.backward()
    optimizer.step()
