# expect: growing-graph at running_mean.py:39 in project since step 1
# twin: healthy/contrastive/byol.py
"""Features are centred by a running mean of themselves, which keeps the graph of all steps."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Centre(nn.Module):
    def __init__(self, d, momentum=0.9):
        super().__init__()
        self.mean, self.momentum = torch.zeros(d), momentum

    def forward(self, h):
        self.mean = self.momentum * self.mean + (1 - self.momentum) * h.mean(0)
        return h - self.mean


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.project, self.centre, self.classify = nn.Linear(12, 16), Centre(16), nn.Linear(16, 4)

    def forward(self, x):
        return self.classify(torch.tanh(self.centre(self.project(x))))


net = Net()
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
for _ in range(25):
    x = torch.randn(32, 12)
    loss = F.cross_entropy(net(x), x[:, :4].argmax(1))
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()
