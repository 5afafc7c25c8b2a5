# expect: nothing
"""Several outputs at several depths, each with a loss; the deepest features see the smallest weight."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.ReLU()) for c in (1, 8, 8, 8))
        self.outs = nn.ModuleList(nn.Conv2d(8, 1, 1) for _ in range(4))

    def forward(self, x):
        maps = []
        for stage, out in zip(self.stages, self.outs):
            x = stage(x)
            maps.append(out(x))
        return maps


net = Net()
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
for _ in range(15):
    x = torch.randn(8, 1, 12, 12)
    goal = F.avg_pool2d(x, 3, 1, 1)
    optimizer.zero_grad()
    sum(0.5**i * F.mse_loss(m, goal) for i, m in enumerate(net(x))).backward()
    optimizer.step()
