# expect: nothing
"""Private training: each micro-batch's gradient is clipped and added up by the program, so clearing it is right."""

import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
K = 4
for it in range(30):
    total = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(K):
        x = torch.randn(8, 10)
        y = (x[:, 0] > 0).long()
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) / K
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for t, p in zip(total, model.parameters()):
            t += p.grad
    for t, p in zip(total, model.parameters()):
        p.grad = t + 0.01 * torch.randn_like(t)
    opt.step()
print(loss.item())
