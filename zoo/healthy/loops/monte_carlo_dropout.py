# expect: nothing
"""Dropout stays on while the model is evaluated, on purpose, and the model is in eval mode otherwise."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(4):
    net.train()
    for _ in range(8):
        x = torch.randn(32, 6)
        optimizer.zero_grad()
        F.mse_loss(net(x), x[:, :1].sin()).backward()
        optimizer.step()
    net.eval()
    net[3].train()
    with torch.no_grad():
        samples = torch.stack([net(torch.randn(16, 6)) for _ in range(5)])
    print(samples.std(0).mean().item())
