# expect: misplaced-clipping at after_the_step.py:19 since step 0
# twin: healthy/loops/clip_that_changes_nothing.py
"""Gradients are clipped when the step has already used them."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
lstm, head = nn.LSTM(4, 16, batch_first=True), nn.Linear(16, 1)
model = nn.ModuleList([lstm, head])
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(25):
    x = torch.randn(8, 12, 4)
    optimizer.zero_grad()
    F.mse_loss(head(lstm(x)[0][:, -1]), 5 * x.sum((1, 2))[:, None]).backward()
    optimizer.step()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
