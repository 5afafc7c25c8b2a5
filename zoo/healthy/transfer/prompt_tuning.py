# expect: nothing
"""Soft prompts in front of a frozen transformer: gradients flow through it, and none stay in it."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Prompted(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.embed = nn.Embedding(30, d)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, 2, 32, 0.0, batch_first=True), 2)
        self.head = nn.Linear(d, 2)
        self.requires_grad_(False)
        self.prompt = nn.Parameter(0.02 * torch.randn(1, 4, d))

    def forward(self, ids):
        x = torch.cat([self.prompt.expand(len(ids), -1, -1), self.embed(ids)], 1)
        return self.head(self.body(x)[:, 0])


model = Prompted()
optimizer = optim.Adam([model.prompt], lr=0.05)
for _ in range(20):
    ids = torch.randint(30, (8, 6))
    optimizer.zero_grad()
    F.cross_entropy(model(ids), ids[:, 0] % 2).backward()
    optimizer.step()
