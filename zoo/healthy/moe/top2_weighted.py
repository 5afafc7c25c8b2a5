# expect: nothing
"""Two experts for each token, weighted with a softmax over their two scores; noise on the scores."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MoE(nn.Module):
    def __init__(self, d=10, experts=4):
        super().__init__()
        self.router = nn.Linear(d, experts, bias=False)
        self.w1 = nn.Parameter(torch.randn(experts, d, 2 * d) / d**0.5)
        self.w2 = nn.Parameter(torch.randn(experts, 2 * d, d) / (2 * d) ** 0.5)

    def forward(self, x):
        scores = self.router(x)
        if self.training:
            scores = scores + 0.1 * torch.randn_like(scores)
        values, chosen = scores.topk(2, dim=-1)
        weights = torch.zeros_like(scores).scatter(1, chosen, values.softmax(-1))
        h = F.gelu(torch.einsum("nd,edh->neh", x, self.w1))
        return torch.einsum("neh,ehd,ne->nd", h, self.w2, weights)


net = nn.Sequential(nn.Linear(6, 10), MoE(), nn.LayerNorm(10), nn.Linear(10, 2))
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(32, 6)), torch.randint(2, (32,))).backward()
    optimizer.step()
