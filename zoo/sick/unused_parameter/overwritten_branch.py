# expect: unused-parameter at overwritten_branch.py:21 in skip.* since step 0
"""The result of the skip connection is overwritten instead of added."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.skip = nn.Conv1d(4, 8, 1)
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        y = self.skip(x)
        y = F.relu(self.conv(x))
        return self.head(y.mean(-1))


model = Block()
optimizer = optim.SGD(model.parameters(), lr=0.1)
for i in range(15):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(8, 4, 10)), torch.randint(2, (8,)))
    loss.backward()
    optimizer.step()
