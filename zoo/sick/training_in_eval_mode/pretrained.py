# expect: training-in-eval-mode at pretrained.py:37 in bn since step 0
# twin: healthy/vision/frozen_batch_norm.py
"""A pretrained network comes in eval mode, and is fine-tuned as it comes."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    @classmethod
    def from_pretrained(cls):
        return cls().eval()

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def fit(self, steps):
        for _ in range(steps):
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(torch.randn(8, 3, 10, 10)), torch.randint(5, (8,))).backward()
            self.optimizer.step()


Trainer(Net.from_pretrained()).fit(20)
