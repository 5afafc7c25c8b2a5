# expect: symmetric-units in users.weight,films.weight since step 0
# twin: healthy/loops/alternating_freeze.py
"""Ratings are factorised into tables that begin as a constant: all factors of a user stay equal."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Factors(nn.Module):
    def __init__(self, users=30, films=40, rank=8):
        super().__init__()
        self.users, self.films = nn.Embedding(users, rank), nn.Embedding(films, rank)
        self.offset = nn.Parameter(torch.zeros(1))
        self.reset()

    def reset(self):
        for table in (self.users, self.films):
            nn.init.constant_(table.weight, 0.3)

    def forward(self, user, film):
        return (self.users(user) * self.films(film)).sum(1) + self.offset


model = Factors()
optimizer = optim.Adam(model.parameters(), lr=0.02)
taste, kind = torch.randn(30, 3), torch.randn(40, 3)
for _ in range(30):
    user, film = torch.randint(30, (256,)), torch.randint(40, (256,))
    loss = F.mse_loss(model(user, film), 3 + (taste[user] * kind[film]).sum(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
