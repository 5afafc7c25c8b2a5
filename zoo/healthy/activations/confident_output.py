# expect: nothing
"""An easy task: the output sigmoid saturates because it is right."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out, self.sigmoid = nn.Linear(4, 16), nn.Linear(16, 1), nn.Sigmoid()

    def forward(self, x):
        return self.sigmoid(self.out(torch.tanh(self.hidden(x)))).squeeze(1)


net = Net()
optimizer = optim.Adam(net.parameters(), lr=0.05)
for _ in range(100):
    y = torch.randint(2, (64,)).float()
    x = 3 * (2 * y[:, None] - 1) + 0.3 * torch.randn(64, 4)
    optimizer.zero_grad()
    F.binary_cross_entropy(net(x), y).backward()
    optimizer.step()
