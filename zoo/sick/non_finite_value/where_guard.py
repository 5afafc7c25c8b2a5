# expect: non-finite-value at where_guard.py:21 since step 0
# twin: healthy/numerics/double_where.py
"""torch.where as a guard: the branch that is not taken multiplies zero by infinity in the backward."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        h = self.net(x) * self.scale
        return torch.where(h > 0, h.sqrt(), torch.zeros_like(h))


flow = Flow()
optimizer = optim.SGD(flow.parameters(), lr=0.01)
for _ in range(10):
    x = torch.randn(32, 3)
    loss = (flow(x) - x.abs()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
