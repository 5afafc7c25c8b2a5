# expect: nothing
"""logsumexp instead of a log of a sum of exponentials, with large logits."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 5))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(20):
    x, y = torch.randn(32, 10) * (1 + step**3), torch.randint(5, (32,))
    logits = model(x)
    loss = (logits.logsumexp(1) - logits.gather(1, y[:, None]).squeeze(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
