# expect: detached-tensor at contrastive_both_sides.py:21 in encoder.* since step 0
# twin: healthy/contrastive/simsiam.py
"""SimSiam with the stop-gradient on both sides: only the predictor learns."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
        self.predictor = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16))

    def embed(self, x):
        return self.encoder(x).detach()

    def forward(self, a, b):
        za, zb = self.embed(a), self.embed(b)
        return -F.cosine_similarity(self.predictor(za), zb).mean() - F.cosine_similarity(self.predictor(zb), za).mean()


model = SimSiam()
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for _ in range(15):
    x = torch.randn(32, 12)
    optimizer.zero_grad()
    model(x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)).backward()
    optimizer.step()
