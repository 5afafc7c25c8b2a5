# expect: nothing
"""Two optimizers hold the trunk by design: one is for one task, one for the other, and they take turns."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
trunk, first, second = nn.Linear(6, 24), nn.Linear(24, 2), nn.Linear(24, 1)
model = nn.ModuleDict({"trunk": trunk, "first": first, "second": second})
opt_a = optim.Adam([*trunk.parameters(), *first.parameters()], lr=1e-3)
opt_b = optim.Adam([*trunk.parameters(), *second.parameters()], lr=1e-3)
for step in range(40):
    x = torch.randn(16, 6)
    model.zero_grad()
    if step % 2:
        F.cross_entropy(first(torch.relu(trunk(x))), (x[:, 0] > 0).long()).backward()
        opt_a.step()
    else:
        F.mse_loss(second(torch.relu(trunk(x))), x.sum(1, keepdim=True)).backward()
        opt_b.step()
