# expect: symmetric-units in [02].weight since step 0
# twin: healthy/vision/vision_transformer.py
"""All weights of a layer are 0.1: its units stay equal for ever."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
for p in net.parameters():
    nn.init.constant_(p, 0.1)
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for _ in range(25):
    x = torch.randn(32, 8)
    optimizer.zero_grad()
    F.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
    optimizer.step()
