# expect: non-finite-value in 0 since step 6
# twin: healthy/numerics/nan_filter.py
"""One NaN in the data set."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
data = torch.randn(200, 5)
data[137, 3] = float("nan")
target = data.nan_to_num().sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = optim.Adam(model.parameters(), lr=1e-2)
for start in range(0, 200, 20):
    x, y = data[start : start + 20], target[start : start + 20]
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
