# expect: nothing
"""Sparse codes: most activations are zero on purpose, by a soft threshold, and few atoms are active."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LISTA(nn.Module):
    def __init__(self, d=12, atoms=48):
        super().__init__()
        self.encode, self.lateral = nn.Linear(d, atoms), nn.Linear(atoms, atoms, bias=False)
        self.threshold = nn.Parameter(torch.full((atoms,), 0.7))
        self.decode = nn.Linear(atoms, d, bias=False)

    def forward(self, x):
        b = self.encode(x)
        z = F.relu(b - self.threshold)
        for _ in range(3):
            z = F.relu(b + 0.1 * self.lateral(z) - self.threshold)
        return self.decode(z), z


model = LISTA()
optimizer = optim.Adam(model.parameters(), lr=2e-3)
for _ in range(30):
    x = torch.randn(64, 12)
    out, z = model(x)
    optimizer.zero_grad()
    (F.mse_loss(out, x) + 0.01 * z.abs().mean()).backward()
    optimizer.step()
