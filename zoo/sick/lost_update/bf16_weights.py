# expect: lost-update at bf16_weights.py:21 since step 0
# twin: healthy/precision/autocast_bf16.py
"""A model in pure bfloat16 with small steps: most updates are lost to rounding."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4)).to(torch.bfloat16)
with torch.no_grad():
    for p in model.parameters():
        p.add_(0.5)
optimizer = optim.SGD(model.parameters(), lr=1e-5)
for _ in range(25):
    x = torch.randn(32, 16)
    optimizer.zero_grad()
    F.cross_entropy(model(x.bfloat16()).float(), x[:, :4].argmax(1)).backward()
    optimizer.step()
