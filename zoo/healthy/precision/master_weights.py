# expect: nothing
"""A bfloat16 model with master weights in single precision, copied there and back by hand."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2)).to(torch.bfloat16)
master = [p.detach().float().clone().requires_grad_() for p in model.parameters()]
optimizer = optim.AdamW(master, lr=1e-3)
trained = optim.SGD(model.parameters(), lr=0.0)
for _ in range(25):
    x = torch.randn(32, 8)
    F.cross_entropy(model(x.bfloat16()).float(), (x[:, 0] > 0).long()).backward()
    for m, p in zip(master, model.parameters()):
        m.grad = p.grad.float()
    optimizer.step()
    with torch.no_grad():
        for m, p in zip(master, model.parameters()):
            p.copy_(m)
    trained.zero_grad()
