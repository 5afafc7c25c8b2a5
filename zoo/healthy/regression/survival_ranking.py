# expect: nothing
"""A Cox model: risks are compared with the risks of all who live longer."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
optimizer = optim.AdamW(net.parameters(), lr=5e-3)
for _ in range(30):
    x = torch.randn(48, 6)
    time = torch.exp(-x[:, 0] + 0.2 * torch.randn(48))
    event = torch.rand(48) < 0.7
    risk = net(x).squeeze(1)
    at_risk = time[None, :] >= time[:, None]
    log_sum = risk[None, :].expand(48, 48).masked_fill(~at_risk, float("-inf")).logsumexp(1)
    loss = -(risk - log_sum)[event].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
