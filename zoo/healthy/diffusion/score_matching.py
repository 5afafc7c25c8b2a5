# expect: nothing
"""Denoising score matching over noise of many sizes: the loss is divided by the variance."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(3, 64), nn.Softplus(), nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 2))
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
sigmas = torch.logspace(0, -2, 10)
for _ in range(30):
    x = torch.randn(64, 2) * torch.tensor([2.0, 0.1])
    sigma = sigmas[torch.randint(10, (64, 1))]
    noise = torch.randn_like(x)
    score = net(torch.cat([x + sigma * noise, sigma.log()], 1)) / sigma
    loss = (0.5 * (score * sigma + noise).square().sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
