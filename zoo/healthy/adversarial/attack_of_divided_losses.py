# expect: nothing
"""An attack of three backwards before each step, with losses that are sums divided by the size of the batch."""

import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for it in range(30):
    x = torch.randn(8, 10)
    y = (x[:, 0] > 0).long()
    delta = torch.zeros_like(x)
    for _ in range(3):
        delta.requires_grad_(True)
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x + delta), y, reduction="sum") / 8
        loss.backward()
        delta = (delta + 0.05 * delta.grad.sign()).detach()
    opt.zero_grad()
    loss = nn.functional.cross_entropy(model(x + delta), y, reduction="sum") / 8
    loss.backward()
    opt.step()
print(loss.item())
