# expect: nothing
"""SimSiam: a stop-gradient on one side, batch norm without a bias, a predictor on the other side."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
        self.predictor = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16))

    def forward(self, a, b):
        za, zb = self.encoder(a), self.encoder(b)
        pa, pb = self.predictor(za), self.predictor(zb)
        return -0.5 * (F.cosine_similarity(pa, zb.detach()).mean() + F.cosine_similarity(pb, za.detach()).mean())


model = SimSiam()
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for _ in range(30):
    x = torch.randn(32, 12)
    loss = model(x + 0.1 * torch.randn_like(x), x * (torch.rand_like(x) > 0.2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
