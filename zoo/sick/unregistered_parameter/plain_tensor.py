# expect: unregistered-parameter at plain_tensor.py:20 in 1.gain since step 0
# twin: healthy/vision/frozen_batch_norm.py
"""A learned scale that is a tensor with requires_grad, and no nn.Parameter."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = torch.ones(width, requires_grad=True)

    def forward(self, x):
        return x * self.gain


model = nn.Sequential(nn.Linear(6, 12), Scale(12), nn.GELU(), nn.Linear(12, 1))
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.mse_loss(model(x), x.std(1, keepdim=True)).backward()
    optimizer.step()
