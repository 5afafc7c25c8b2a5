# expect: nothing
"""A switch layer: one expert for each token, scaled by the probability of its choice; some experts stay idle."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Switch(nn.Module):
    def __init__(self, d=12, experts=6):
        super().__init__()
        self.gate = nn.Linear(d, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d)) for _ in range(experts)
        )

    def forward(self, x):
        p = self.gate(x).softmax(-1)
        weight, index = p.max(-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            mine = (index == i).nonzero().squeeze(1)
            if len(mine):
                out[mine] = weight[mine, None] * expert(x[mine])
        load = F.one_hot(index, len(self.experts)).float().mean(0)
        return x + out, (load * p.mean(0)).sum() * len(self.experts)


moe, head = Switch(), nn.Linear(12, 3)
model = nn.ModuleList([moe, head])
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(25):
    h, balance = moe(torch.randn(10, 12))
    loss = F.cross_entropy(head(h), torch.randint(3, (10,))) + 0.01 * balance
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
