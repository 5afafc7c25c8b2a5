# expect: shape-mismatch at heads_do_not_fit.py:22 since step 0
"""Attention heads that are merged with the wrong sizes before the output projection."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Attention(nn.Module):
    def __init__(self, d=24, heads=4):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (z.view(n, t, self.heads, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        out = F.scaled_dot_product_attention(q, k, v).flatten(2)
        return self.proj(out)


net = nn.Sequential(Attention(), nn.LayerNorm(24), nn.Linear(24, 2))
optimizer = optim.Adam(net.parameters())
for _ in range(2):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(4, 7, 24)).mean(1), torch.randint(2, (4,))).backward()
    optimizer.step()
