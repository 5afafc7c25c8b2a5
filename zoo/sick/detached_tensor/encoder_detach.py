# expect: detached-tensor at encoder_detach.py:22 in encoder.* since step 0
# twin: healthy/contrastive/simsiam.py
"""An encoder whose code is detached, left from an experiment with a frozen encoder."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        code = self.encoder(x)
        code = F.normalize(code.detach(), dim=1)
        return self.head(code)


model = Classifier()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(15):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(32, 20)), torch.randint(5, (32,)))
    loss.backward()
    optimizer.step()
