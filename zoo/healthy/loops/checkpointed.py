# expect: nothing
"""Activation checkpointing, not reentrant."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 24))
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.GELU()) for _ in range(3))
        self.out = nn.Linear(24, 3)

    def forward(self, x):
        h = checkpoint(self.stem, x, use_reentrant=False)
        for block in self.blocks:
            h = h + checkpoint(block, h, use_reentrant=False)
        return self.out(h)


net = Net()
opt = optim.Adam(net.parameters())
for _ in range(20):
    opt.zero_grad()
    F.cross_entropy(net(torch.randn(16, 12)), torch.randint(3, (16,))).backward()
    opt.step()
