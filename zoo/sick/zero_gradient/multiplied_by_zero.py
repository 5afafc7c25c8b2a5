# expect: zero-gradient at multiplied_by_zero.py:29 in extra.* since step 0
"""A loss weight of zero that was left from an ablation: a head that never learns."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.main, self.extra = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x):
        h = self.body(x)
        return self.main(h), self.extra(h)


net, weight = Net(), 0.0
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(30):
    x = torch.randn(16, 1, 12)
    main, extra = net(x)
    loss = F.cross_entropy(main, torch.randint(3, (16,))) + weight * F.mse_loss(extra, x.mean(2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
