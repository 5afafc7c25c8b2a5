# expect: non-finite-value by step 60
# twin: healthy/language/log_softmax.py
"""log(softmax(x)): sooner or later a probability is zero."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = optim.SGD(model.parameters(), lr=0.5)
centers = 40 * torch.randn(4, 8)
for step in range(60):
    y = torch.randint(4, (32,))
    x = centers[y] + torch.randn(32, 8)
    optimizer.zero_grad()
    p = torch.softmax(model(x), dim=1)
    loss = -torch.log(p)[torch.arange(32), y].mean()  # <
    loss.backward()
    optimizer.step()
