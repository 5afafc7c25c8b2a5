# expect: nothing
"""Graph attention with masked neighbours and two dropouts."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class GAT(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.w = nn.Linear(n_in, n_out, bias=False)
        self.a_source, self.a_target = nn.Linear(n_out, 1), nn.Linear(n_out, 1)

    def forward(self, x, adjacency):
        h = self.w(F.dropout(x, 0.3, self.training))
        e = F.leaky_relu(self.a_source(h) + self.a_target(h).t(), 0.2)
        e = torch.where(adjacency > 0, e, torch.full_like(e, -9e15))
        return F.elu(F.dropout(e.softmax(1), 0.3, self.training) @ h)


one, two = GAT(8, 16), GAT(16, 3)
model = nn.ModuleList([one, two])
y = torch.randint(3, (30,))
adjacency = ((torch.rand(30, 30) < 0.1) | torch.eye(30, dtype=torch.bool)).float()
x = F.one_hot(y, 8).float() + torch.randn(30, 8)
optimizer = optim.Adam(model.parameters(), lr=5e-3)
for _ in range(30):
    optimizer.zero_grad()
    F.nll_loss(F.log_softmax(two(one(x, adjacency), adjacency), 1)[:15], y[:15]).backward()
    optimizer.step()
