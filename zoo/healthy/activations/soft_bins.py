# expect: nothing
"""Soft bins of ages with learned edges: a sigmoid one year wide over seventy years is flat nearly everywhere."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Edges(nn.Module):
    def __init__(self):
        super().__init__()
        self.edges = nn.Parameter(torch.linspace(20, 80, 13))

    def forward(self, age):
        return age - self.edges


model = nn.Sequential(Edges(), nn.Sigmoid(), nn.Linear(13, 1))
optimizer = optim.Adam(model.parameters(), lr=0.03)
for _ in range(200):
    age = torch.rand(128, 1) * 70 + 15
    effect = (age > 33).float() + 0.5 * (age > 57).float()
    loss = (model(age) - effect).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
