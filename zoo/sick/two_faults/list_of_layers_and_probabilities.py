# expect: loss-input-mismatch at list_of_layers_and_probabilities.py:33 since step 0
# expect: unregistered-parameter at list_of_layers_and_probabilities.py:24 in blocks* since step 0
"""Layers in a list, which nobody trains, and a sigmoid in front of a loss that has its own."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Linear(7, 20)
        self.blocks = [nn.Linear(20, 20), nn.Linear(20, 20)]
        self.out = nn.Linear(20, 1)

    def forward(self, x):
        h = F.relu(self.read(x))
        for block in self.blocks:
            h = h + F.relu(block(h))
        return torch.sigmoid(self.out(h)).squeeze(1)


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(32, 7)
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(net(x), (x[:, 0] > x[:, 1]).float())
    loss.backward()
    optimizer.step()
