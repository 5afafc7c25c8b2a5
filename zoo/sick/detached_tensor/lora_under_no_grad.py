# expect: detached-tensor at lora_under_no_grad.py:23 in *.lora_* since step 0
# twin: healthy/transfer/lora.py
"""Low-rank adapters that run inside of the no_grad meant for the frozen weight."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LoRALinear(nn.Module):
    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(0.1 * torch.randn(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    @torch.no_grad()
    def forward(self, x):
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


model = nn.Sequential(LoRALinear(nn.Linear(10, 16)), nn.GELU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 2))
optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
for _ in range(15):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(8, 10)), torch.randint(2, (8,)))
    loss.backward()
    optimizer.step()
