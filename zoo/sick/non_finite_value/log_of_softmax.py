# expect: non-finite-value at log_of_softmax.py:18 by step 40
# twin: healthy/language/log_softmax.py
"""log(softmax(x)) with a temperature that falls: sooner or later a probability is zero."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = optim.Adam(model.parameters(), lr=1e-4)
for step in range(40):
    x, y = torch.randn(32, 8), torch.randint(4, (32,))
    optimizer.zero_grad()
    temperature = 0.7**step
    p = torch.softmax(model(x) / temperature, dim=1)
    loss = -torch.log(p)[torch.arange(32), y].mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
