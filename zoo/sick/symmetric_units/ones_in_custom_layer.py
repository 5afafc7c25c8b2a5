# expect: symmetric-units in hidden.weight since step 0
"""A hand-made layer that begins with torch.ones, as placeholders do."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Dense(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_out, n_in) / n_in)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = Dense(10, 20), Dense(20, 1)

    def forward(self, x):
        return self.out(F.silu(self.hidden(x)))


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for _ in range(25):
    x = torch.randn(32, 10)
    optimizer.zero_grad()
    F.mse_loss(net(x), x[:, :1].abs()).backward()
    optimizer.step()
