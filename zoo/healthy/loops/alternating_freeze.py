# expect: nothing
"""Matrix factorisation by turns: users are frozen while items learn, and the other way round."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(30, 6), nn.Embedding(40, 6)

    def forward(self, u, i):
        return (self.users(u) * self.items(i)).sum(1)


model = Factors()
optimizer = optim.Adam(model.parameters(), lr=1e-2)
truth = torch.randn(30, 2) @ torch.randn(2, 40)
for epoch in range(6):
    model.users.requires_grad_(epoch % 2 == 0)
    model.items.requires_grad_(epoch % 2 == 1)
    for _ in range(8):
        u, i = torch.randint(30, (64,)), torch.randint(40, (64,))
        optimizer.zero_grad()
        F.mse_loss(model(u, i), truth[u, i]).backward()
        optimizer.step()
