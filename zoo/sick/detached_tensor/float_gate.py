# expect: detached-tensor at float_gate.py:21 in gate.* since step 0
# twin: healthy/moe/top1_scaled.py
"""A gate whose probability is read as a Python number."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(8, 1)
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        share = float(torch.sigmoid(self.gate(x.mean(0))))
        return self.head(share * self.left(x) + (1 - share) * self.right(x))


model = Gated()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for step in range(15):
    x = torch.randn(12, 8)
    optimizer.zero_grad()
    loss = (model(x) - x.mean(1, keepdim=True)).square().mean()
    loss.backward()
    optimizer.step()
