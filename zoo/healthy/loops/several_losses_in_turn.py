# expect: nothing
"""Four tasks, each with a loss and a backward of its own, one step for all of them; nothing is to be divided."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
        self.kind, self.size, self.sign, self.copy = (
            nn.Linear(32, 4),
            nn.Linear(32, 1),
            nn.Linear(32, 1),
            nn.Linear(32, 8),
        )


model = MultiTask()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(25):
    x = torch.randn(24, 8)
    optimizer.zero_grad()
    F.cross_entropy(model.kind(model.trunk(x)), x[:, :4].argmax(1)).backward()
    F.mse_loss(model.size(model.trunk(x)).squeeze(1), x.norm(dim=1)).backward()
    F.binary_cross_entropy_with_logits(model.sign(model.trunk(x)).squeeze(1), (x[:, 0] > 0).float()).backward()
    F.l1_loss(model.copy(model.trunk(x)), x).backward()
    optimizer.step()
