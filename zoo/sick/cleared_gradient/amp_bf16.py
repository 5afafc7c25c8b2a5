# expect: cleared-gradient at amp_bf16.py:22 since step 0
# twin: healthy/precision/autocast_bf16.py
"""Autocast and gradient accumulation; the clearing is on the wrong side of the step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Conv1d(2, 8, 3), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4))
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
accumulation = 3
for step in range(30):
    signal, label = torch.randn(8, 2, 20), torch.randint(4, (8,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(signal), label) / accumulation
    loss.backward()
    if (step + 1) % accumulation == 0:
        optimizer.zero_grad(set_to_none=True)
        optimizer.step()
