# expect: duplicate-parameter at sparse_and_dense.py:36 in users.*,items.* since step 0
"""A recommender: SparseAdam is for the tables, and the optimizer of the rest was given everything."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Recommender(nn.Module):
    def __init__(self, users=40, items=60, d=8):
        super().__init__()
        self.users = nn.Embedding(users, d, sparse=True)
        self.items = nn.Embedding(items, d, sparse=True)
        self.score = nn.Sequential(nn.Linear(2 * d, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, user, item):
        return self.score(torch.cat([self.users(user), self.items(item)], 1)).squeeze(1)

    def tables(self):
        return [self.users.weight, self.items.weight]


model = Recommender()
optimizers = [optim.SparseAdam(model.tables(), lr=1e-2), optim.SGD(model.parameters(), lr=0.05)]
for _ in range(25):
    user, item = torch.randint(40, (64,)), torch.randint(60, (64,))
    loss = F.binary_cross_entropy_with_logits(model(user, item), ((user + item) % 2).float())
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
