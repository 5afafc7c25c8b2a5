# expect: zero-gradient at lora_both_zero.py:22 in *.lora_* since step 0
# twin: healthy/transfer/lora.py
"""LoRA with both matrices at zero: neither ever gets a gradient."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LoRALinear(nn.Module):
    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.zeros(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


adapted = LoRALinear(nn.Linear(10, 24)), nn.GELU(), LoRALinear(nn.Linear(24, 24)), nn.GELU()
model = nn.Sequential(*adapted, nn.Linear(24, 2))
optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(16, 10)), torch.randint(2, (16,))).backward()
    optimizer.step()
