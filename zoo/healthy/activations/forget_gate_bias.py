# expect: nothing
"""An LSTM by hand whose forget gate begins wide open, and whose gates are modules."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Cell(nn.Module):
    def __init__(self, n, h):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(n, 4 * h), nn.Linear(h, 4 * h, bias=False)
        self.gate_i, self.gate_f, self.gate_o, self.squash = nn.Sigmoid(), nn.Sigmoid(), nn.Sigmoid(), nn.Tanh()
        with torch.no_grad():
            self.x2h.bias[h : 2 * h] = 6.0

    def forward(self, x, h, c):
        i, f, o, g = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
        c = self.gate_f(f) * c + self.gate_i(i) * self.squash(g)
        return self.gate_o(o) * torch.tanh(c), c


cell, out = Cell(2, 16), nn.Linear(16, 1)
net = nn.ModuleList([cell, out])
optimizer = optim.Adam(net.parameters(), lr=5e-3)
for _ in range(25):
    x = torch.rand(32, 20, 2)
    h = c = torch.zeros(32, 16)
    for t in range(20):
        h, c = cell(x[:, t], h, c)
    optimizer.zero_grad()
    F.mse_loss(out(h), x[:, :2, 0].sum(1, keepdim=True)).backward()
    optimizer.step()
