# expect: training-in-eval-mode at after_validation.py:26 in 1,3 since step 8
# twin: healthy/loops/validation_between_epochs.py
"""eval() for the validation, and nobody goes back to train()."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
optimizer = optim.Adam(model.parameters(), lr=1e-3)


def validate():
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(torch.randn(64, 10)), torch.randint(3, (64,))).item()


for epoch in range(4):
    for _ in range(8):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(16, 10)), torch.randint(3, (16,))).backward()
        optimizer.step()
    validate()
