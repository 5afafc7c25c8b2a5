# expect: nothing
"""BYOL: the target is an average of the online network, and runs under no_grad."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Online(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        )
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        return self.project(self.encoder(x))


class BYOL(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = Online()
        self.target = copy.deepcopy(self.online)
        for p in self.target.parameters():
            p.requires_grad = False
        self.predict = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, a, b):
        with torch.no_grad():
            goal = self.target(b)
        return 2 - 2 * F.cosine_similarity(self.predict(self.online(a)), goal).mean()

    @torch.no_grad()
    def update(self):
        for t, o in zip(self.target.parameters(), self.online.parameters()):
            t.data = 0.98 * t.data + 0.02 * o.data


byol = BYOL()
optimizer = optim.Adam(byol.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(16, 1, 20)
    loss = byol(x + 0.1 * torch.randn_like(x), x.flip(2)) + byol(x.flip(2), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    byol.update()
