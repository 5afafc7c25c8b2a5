# expect: exploding-gradient since step 0
# twin: healthy/regression/orthogonal_deep.py
"""Weights drawn from a standard normal distribution, ten layers deep; clipping hides it in the loss."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(64, 64), nn.ReLU())], nn.Linear(64, 1))
for m in net:
    if isinstance(m, nn.Linear):
        nn.init.normal_(m.weight)
optimizer = optim.SGD(net.parameters(), lr=0.01)
for step in range(12):
    x = torch.randn(32, 64)
    optimizer.zero_grad()
    F.l1_loss(net(x), x.sum(1, keepdim=True)).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
