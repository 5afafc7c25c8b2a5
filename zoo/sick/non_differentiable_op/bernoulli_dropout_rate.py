# expect: non-differentiable-op at bernoulli_dropout_rate.py:22 in rate.* since step 0
"""A learned dropout rate, whose mask is a plain Bernoulli sample."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LearnedDropout(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.rate = nn.Linear(width, width)
        self.body = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        keep = torch.sigmoid(self.rate(x))
        mask = torch.bernoulli(keep)
        return self.out(F.relu(self.body(x)) * mask)


model = LearnedDropout(10)
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for t in range(20):
    x = torch.randn(32, 10)
    loss = F.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
