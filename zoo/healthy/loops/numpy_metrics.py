# expect: nothing
"""Outputs go to numpy for a metric, beside the loss."""

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = optim.Adam(model.parameters(), lr=1e-2)
history = []
for epoch in range(30):
    x = torch.randn(32, 8)
    y = x[:, :3].argmax(1)
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guess = logits.detach().numpy().argmax(axis=1)
    history.append(float(np.mean(guess == y.numpy())))
print(history[-1])
