# expect: nothing
"""A checkpoint is loaded after the optimizer was made: the parameters stay the same objects."""

import io
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
buffer = io.BytesIO()
for epoch in range(4):
    for _ in range(8):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(16, 6)), torch.randint(2, (16,))).backward()
        optimizer.step()
    if epoch == 1:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    if epoch == 2:
        buffer.seek(0)
        saved = torch.load(buffer)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
