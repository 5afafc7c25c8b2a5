# expect: zero-gradient at queries_and_keys.py:21 in query.*,key.* since step 0
# twin: healthy/initialization/zero_head.py
"""Attention in a script: both projections begin at zero, for a uniform start, and so they end."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
d = 12
names = ("query", "key", "value")
net = nn.ModuleDict({name: nn.Linear(d, d, bias=False) for name in names} | {"out": nn.Linear(d, 2)})
for name in ("query", "key"):
    nn.init.zeros_(net[name].weight)
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for step in range(25):
    tokens = torch.randn(16, 6, d)
    q, k, v = (net[name](tokens) for name in names)
    weights = (q @ k.transpose(1, 2) / d**0.5).softmax(2)
    loss = F.cross_entropy(net["out"]((weights @ v).mean(1)), (tokens[:, 0, 0] > 0).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
