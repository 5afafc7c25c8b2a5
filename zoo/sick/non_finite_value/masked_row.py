# expect: non-finite-value at masked_row.py:25 by step 6
# twin: healthy/language/masked_attention.py
"""An attention row that is masked altogether."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MaskedAttention(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, 2)

    def forward(self, x, lengths):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2) / 12**0.5
        mask = torch.arange(x.size(1)) >= lengths[:, None]
        scores = scores.masked_fill(mask[:, None, :], float("-inf"))
        weights = scores.softmax(dim=-1)
        return self.out((weights @ v).mean(1))


model = MaskedAttention()
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for step in range(10):
    lengths = torch.randint(1, 6, (8,))
    if step == 5:
        lengths[3] = 0
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(8, 6, 12), lengths), torch.randint(2, (8,))).backward()
    optimizer.step()
