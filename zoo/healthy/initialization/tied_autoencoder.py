# expect: nothing
"""The decoder uses the encoder's weight, transposed."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 20) / 20**0.5)
        self.b1, self.b2 = nn.Parameter(torch.zeros(6)), nn.Parameter(torch.zeros(20))

    def forward(self, x):
        return F.linear(torch.sigmoid(F.linear(x, self.weight, self.b1)), self.weight.t(), self.b2)


model = Tied()
optimizer = optim.Adam(model.parameters(), lr=5e-3)
basis = torch.randn(4, 20)
for _ in range(30):
    x = torch.randn(64, 4) @ basis
    optimizer.zero_grad()
    F.mse_loss(model(x), x).backward()
    optimizer.step()
