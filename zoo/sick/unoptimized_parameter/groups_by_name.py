# expect: unoptimized-parameter at groups_by_name.py:35 in position since step 0
"""Parameter groups by name: what is neither weight nor bias, the embedding of positions, is in none."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Model(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.embed = nn.Embedding(20, d)
        self.position = nn.Parameter(0.02 * torch.randn(8, d))
        self.attention = nn.MultiheadAttention(d, 2, batch_first=True)
        self.norm, self.out = nn.LayerNorm(d), nn.Linear(d, 20)

    def forward(self, ids):
        x = self.embed(ids) + self.position
        return self.out(self.norm(x + self.attention(x, x, x, need_weights=False)[0]))


model = Model()
named = list(model.named_parameters())
decay = [p for n, p in named if n.endswith("weight")]
no_decay = [p for n, p in named if n.endswith("bias")]
optimizer = optim.AdamW([{"params": decay}, {"params": no_decay, "weight_decay": 0.0}], lr=1e-3)
for _ in range(25):
    ids = torch.randint(20, (8, 8))
    optimizer.zero_grad()
    F.cross_entropy(model(ids).transpose(1, 2), ids.roll(-1, 1)).backward()
    optimizer.step()
