# expect: unused-parameter at wrong_variable.py:21 in refine.* since step 0
"""The refined map is computed, and the coarse one is returned."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.coarse, self.refine = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        coarse = F.relu(self.coarse(x))
        refined = coarse + F.relu(self.refine(coarse))
        assert refined.shape == coarse.shape
        return self.out(coarse)


net = Net()
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
for _ in range(15):
    x = torch.randn(8, 1, 10, 10)
    optimizer.zero_grad()
    F.mse_loss(net(x), F.avg_pool2d(x, 3, 1, 1)).backward()
    optimizer.step()
