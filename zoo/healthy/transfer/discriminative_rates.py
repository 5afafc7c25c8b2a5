# expect: nothing
"""A learning rate for each layer, down to almost nothing for the first one."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(16, 16), nn.ReLU())], nn.Linear(16, 3))
layers = [m for m in net if isinstance(m, nn.Linear)]
groups = [{"params": m.parameters(), "lr": 1e-2 * 0.3**depth} for depth, m in enumerate(reversed(layers))]
optimizer = optim.SGD(groups, lr=1e-2, momentum=0.9)
for _ in range(30):
    x = torch.randn(16, 16)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
