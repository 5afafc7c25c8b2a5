# expect: nothing
"""Missing values are NaN in the data, and are filled and masked before they meet a weight."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Imputer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fill = nn.Parameter(torch.zeros(5))
        self.net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        missing = x.isnan()
        x = torch.where(missing, self.fill, x.nan_to_num())
        return self.net(torch.cat([x, missing.float()], 1))


model = Imputer()
optimizer = optim.Adam(model.parameters(), lr=1e-2)
for _ in range(25):
    clean = torch.randn(32, 5)
    x = clean.masked_fill(torch.rand(32, 5) < 0.2, float("nan"))
    optimizer.zero_grad()
    F.mse_loss(model(x), clean.sum(1, keepdim=True)).backward()
    optimizer.step()
