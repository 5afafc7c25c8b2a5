# expect: nothing
"""Feature selection with a relaxed gate: a hard concrete distribution in training, and a penalty on its mean."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class HardConcrete(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        u = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
        s = torch.sigmoid((u.log() - (1 - u).log() + self.log_alpha) / 0.66)
        return x * (s * 1.2 - 0.1).clamp(0, 1)


gate = HardConcrete(12)
net = nn.Sequential(gate, nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 1))
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for _ in range(40):
    x = torch.randn(32, 12)
    penalty = torch.sigmoid(gate.log_alpha + 1.6).sum()
    loss = F.mse_loss(net(x), x[:, :3].sum(1, keepdim=True)) + 1e-2 * penalty
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
