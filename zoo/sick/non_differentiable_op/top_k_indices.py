# expect: non-differentiable-op at top_k_indices.py:23 in router.* since step 0
# twin: healthy/moe/top2_weighted.py
"""A mixture of experts that uses which experts are best, and not how good they are."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MoE(nn.Module):
    def __init__(self, dim=12, experts=4, k=2):
        super().__init__()
        self.router = nn.Linear(dim, experts)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(dim, dim), nn.GELU()) for _ in range(experts))
        self.head = nn.Linear(dim, 3)
        self.k = k

    def forward(self, x):
        _, chosen = self.router(x).topk(self.k, dim=-1)
        everything = torch.stack([expert(x) for expert in self.experts], dim=1)
        index = chosen.unsqueeze(-1).expand(-1, -1, x.size(-1))
        return self.head(everything.gather(1, index).mean(1))


moe = MoE()
optimizer = optim.SGD(moe.parameters(), lr=0.05, momentum=0.9)
for _ in range(15):
    optimizer.zero_grad()
    F.cross_entropy(moe(torch.randn(32, 12)), torch.randint(3, (32,))).backward()
    optimizer.step()
