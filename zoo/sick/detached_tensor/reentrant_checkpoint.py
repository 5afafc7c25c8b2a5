# expect: detached-tensor at reentrant_checkpoint.py:25 in stem.* since step 0
# twin: healthy/loops/checkpointed.py
"""A reentrant checkpoint around the first layers, whose input needs no gradient."""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.utils.checkpoint import checkpoint

warnings.filterwarnings("ignore")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 24))
        self.rest = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 3))

    def forward(self, x):
        h = checkpoint(self.stem, x, use_reentrant=True)
        return self.rest(h)


net = Net()
opt = optim.Adam(net.parameters())
for _ in range(12):
    opt.zero_grad()
    F.cross_entropy(net(torch.randn(16, 12)), torch.randint(3, (16,))).backward()
    opt.step()
