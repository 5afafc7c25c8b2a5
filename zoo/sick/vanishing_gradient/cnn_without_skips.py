# expect: vanishing-gradient in stem,blocks.* since step 0
# twin: healthy/vision/resnet.py
"""A deep stack of convolutions and sigmoids without skips or normalisation."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Stack(nn.Module):
    def __init__(self, depth=9):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth))
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = torch.sigmoid(block(x))
        return self.fc(x.mean((2, 3)))


net = Stack()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for _ in range(12):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(8, 1, 10, 10)), torch.randint(4, (8,))).backward()
    optimizer.step()
