# expect: broadcast-loss at functional_mse.py:26 since step 0
"""mse_loss warns, and warnings are off."""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
warnings.simplefilter("ignore")


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 3)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(F.relu(self.conv(x)).mean(-1))

    def loss(self, batch):
        x, y = batch
        return F.mse_loss(self(x), y)


model = Regressor()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(15):
    x = torch.randn(24, 3, 16)
    loss = model.loss((x, x.mean((1, 2))))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
