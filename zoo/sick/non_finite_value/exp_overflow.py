# expect: non-finite-value at exp_overflow.py:16 by step 20
# twin: healthy/numerics/logsumexp.py
"""log of a sum of exponentials, without taking the maximum out: it overflows."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 5))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(20):
    x, y = torch.randn(32, 10) * (1 + step**3), torch.randint(5, (32,))
    logits = model(x)
    normalizer = logits.exp().sum(1).log()
    loss = (normalizer - logits.gather(1, y[:, None]).squeeze(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
