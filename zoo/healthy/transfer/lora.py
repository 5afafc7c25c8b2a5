# expect: nothing
"""LoRA: the second matrix begins at zero, so the first gets a gradient of zero in the first step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LoRALinear(nn.Module):
    def __init__(self, base, rank=2, alpha=4):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_a.T @ self.lora_b.T)


def adapt(model):
    for name, child in list(model.named_children()):
        if isinstance(child, nn.Linear):
            setattr(model, name, LoRALinear(child))
        else:
            adapt(child)
    return model


model = adapt(
    nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Sequential(nn.Linear(32, 32), nn.GELU()), nn.Linear(32, 2))
)
optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
for _ in range(25):
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(16, 10)), torch.randint(2, (16,))).backward()
    optimizer.step()
