# expect: exploding-gradient in read,layers.* since step 0
# twin: healthy/graphs/message_passing.py
"""Messages of all neighbours are summed, nobody divides by the degree: eight layers on a dense graph."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class GraphNet(nn.Module):
    def __init__(self, adjacency, d=16, depth=8):
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.read = nn.Linear(4, d)
        self.layers = nn.ModuleList(nn.Linear(d, d) for _ in range(depth))
        self.out = nn.Linear(d, 3)

    def propagate(self, layer, h):
        return F.leaky_relu(self.adjacency @ layer(h))

    def forward(self, x):
        h = self.read(x)
        for layer in self.layers:
            h = self.propagate(layer, h)
        return self.out(h)


nodes = 60
edges = (torch.rand(nodes, nodes) < 0.6).float()
net = GraphNet(((edges + edges.T) > 0).float())
optimizer = optim.Adam(net.parameters(), lr=1e-3)
x, y = torch.randn(nodes, 4), torch.randint(3, (nodes,))
for _ in range(12):
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
