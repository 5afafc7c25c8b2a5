# expect: nothing
"""Message passing by index_add; the node without neighbours stays as it is."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Layer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.message, self.update = nn.Linear(d, d), nn.GRUCell(d, d)

    def forward(self, h, edges):
        source, target = edges
        return self.update(torch.zeros_like(h).index_add(0, target, self.message(h)[source]), h)


class GraphNet(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.embed = nn.Linear(5, d)
        self.layers = nn.ModuleList(Layer(d) for _ in range(3))
        self.readout = nn.Linear(d, 3)

    def forward(self, x, edges):
        h = self.embed(x)
        for layer in self.layers:
            h = layer(h, edges)
        return self.readout(h)


edges, x, y = torch.randint(19, (2, 60)), torch.randn(20, 5), torch.randint(3, (20,))
model = GraphNet()
optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
train = torch.arange(20) < 12
for epoch in range(30):
    optimizer.zero_grad()
    F.cross_entropy(model(x, edges)[train], y[train]).backward()
    optimizer.step()
