# expect: loss-input-mismatch at softmax_and_forgotten_head.py:27 since step 0
# expect: unused-parameter in spare.* since step 0
"""A softmax too many, and a head that nobody calls."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.spare = nn.Linear(6, 12), nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, x):
        return self.head(F.relu(self.body(x))).softmax(1)


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for _ in range(20):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(16, 6)), torch.randint(3, (16,))).backward()
    optimizer.step()
