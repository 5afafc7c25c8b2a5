# expect: nothing
"""A network makes the weights of another one."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Hyper(nn.Module):
    def __init__(self):
        super().__init__()
        self.task = nn.Embedding(4, 8)
        self.weights = nn.Linear(8, 6 * 3 + 3)

    def forward(self, x, task):
        w = self.weights(self.task(task))
        return F.linear(x, w[:18].view(3, 6), w[18:])


hyper = Hyper()
optimizer = optim.Adam(hyper.parameters(), lr=1e-2)
for step in range(40):
    task = torch.tensor(step % 4)
    x = torch.randn(32, 6)
    y = x[:, [(step % 4 + k) % 6 for k in range(3)]].argmax(1)
    optimizer.zero_grad()
    F.cross_entropy(hyper(x, task), y).backward()
    optimizer.step()
