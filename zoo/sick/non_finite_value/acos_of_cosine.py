# expect: non-finite-value at acos_of_cosine.py:23 since step 0
"""An angular loss: acos of a cosine that is exactly one."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x):
        return F.normalize(self.body(x), dim=-1)

    def angle(self, a, b):
        cosine = (self(a) * self(b)).sum(-1).clamp(-1, 1)
        return torch.acos(torch.where(a.eq(b).all(-1), torch.ones_like(cosine) * cosine / cosine, cosine))


model = Encoder()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for step in range(8):
    a = torch.randn(16, 6)
    b = torch.cat([a[:2], torch.randn(14, 6)])
    optimizer.zero_grad()
    loss = model.angle(a, b).mean()
    loss.backward()
    optimizer.step()
