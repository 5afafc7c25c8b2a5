# expect: vanishing-gradient in 0,*.conv since step 0
# twin: healthy/vision/resnet.py
"""A residual network whose configuration turns the shortcuts off, and has shrunk the weights for them."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    depth: int = 12
    channels: int = 8
    shortcuts: bool = False
    lr: float = 0.05


class Branch(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.shortcut = config.shortcuts
        nn.init.kaiming_normal_(self.conv.weight)
        self.conv.weight.data /= config.depth

    def forward(self, x):
        h = F.relu(self.conv(x))
        return x + h if self.shortcut else h


class Trainer:
    def __init__(self, config):
        stem, head = nn.Conv2d(1, config.channels, 3, padding=1), nn.Linear(config.channels, 3)
        branches = [Branch(config) for _ in range(config.depth)]
        self.model = nn.Sequential(stem, *branches, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        self.optimizer = optim.SGD(self.model.parameters(), lr=config.lr, momentum=0.9)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.rand(16, 1, 10, 10)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), torch.randint(3, (16,))).backward()
            self.optimizer.step()


Trainer(Config()).fit(12)
