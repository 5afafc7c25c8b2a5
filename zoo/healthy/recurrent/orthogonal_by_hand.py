# expect: nothing
"""A linear recurrence by hand over forty steps; its matrix is orthogonal, so gradients keep their size."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Memory(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.read, self.carry, self.out = (
            nn.Linear(2, hidden),
            nn.Linear(hidden, hidden, bias=False),
            nn.Linear(hidden, 2),
        )
        nn.init.orthogonal_(self.carry.weight)

    def forward(self, x):
        h = x.new_zeros(len(x), 24)
        outputs = []
        for t in range(x.size(1)):
            h = self.carry(h) + self.read(x[:, t])
            outputs.append(self.out(h))
        return torch.stack(outputs, 1)


net = Memory()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(15):
    x = torch.randn(16, 40, 2)
    optimizer.zero_grad()
    F.mse_loss(net(x)[:, 5:], x[:, :-5]).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
