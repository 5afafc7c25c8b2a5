# expect: detached-tensor at unzeroed_and_detached.py:21 in encoder.* since step 0
# expect: unzeroed-gradient at unzeroed_and_detached.py:28 in head.* since step 1
"""Two faults that have nothing to do with one another: a detach, and no zero_grad."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.encoder(x).detach())


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.01)
for _ in range(20):
    F.cross_entropy(net(torch.randn(16, 8)), torch.randint(2, (16,))).backward()
    optimizer.step()
