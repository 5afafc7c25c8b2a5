# expect: nothing
"""Padding masks with -inf; no row is masked altogether, and a module returns the masked scores."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Scores(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x, lengths):
        scores = self.q(x) @ self.k(x).transpose(1, 2) / x.size(-1) ** 0.5
        mask = torch.arange(x.size(1)) >= lengths[:, None]
        return scores.masked_fill(mask[:, None, :], float("-inf"))


class Net(nn.Module):
    def __init__(self, d=12):
        super().__init__()
        self.embed = nn.Embedding(20, d, padding_idx=0)
        self.scores, self.v, self.out = Scores(d), nn.Linear(d, d), nn.Linear(d, 2)

    def forward(self, ids, lengths):
        x = self.embed(ids)
        attended = self.scores(x, lengths).softmax(-1) @ self.v(x)
        return self.out(attended[:, 0])


model = Net()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(20):
    lengths = torch.randint(1, 8, (16,))
    ids = torch.randint(1, 20, (16, 8)) * (torch.arange(8) < lengths[:, None])
    optimizer.zero_grad()
    F.cross_entropy(model(ids, lengths), ids[:, 0] % 2).backward()
    optimizer.step()
