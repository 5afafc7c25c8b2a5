# expect: nothing
"""A tiny vision transformer with a class token and stochastic depth."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class DropPath(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training:
            return x
        keep = (torch.rand(x.size(0), 1, 1) > self.rate).float()
        return x * keep / (1 - self.rate)


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.drop = DropPath(0.3)

    def forward(self, x):
        q, k, v = self.qkv(self.n1(x)).chunk(3, -1)
        x = x + self.drop(self.proj(F.scaled_dot_product_attention(q, k, v)))
        return x + self.drop(self.mlp(self.n2(x)))


class ViT(nn.Module):
    def __init__(self, d=24):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        self.pos = nn.Parameter(0.02 * torch.randn(1, 17, d))
        self.blocks = nn.Sequential(*(Block(d) for _ in range(3)))
        self.head = nn.Linear(d, 4)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.blocks(x)[:, 0])


model = ViT()
optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
for _ in range(20):
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(8, 3, 16, 16)), torch.randint(4, (8,))).backward()
    optimizer.step()
