# expect: detached-tensor at no_grad_backbone.py:32 in backbone.* since step 0
# twin: healthy/transfer/linear_probe.py
"""The backbone is to be fine-tuned, and runs under no_grad since the feature extraction experiment."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
import os

import torch

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Config:
    lr: float = 1e-3
    epochs: int = 2
    finetune: bool = True


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.body = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())

    def forward(self, x):
        return self.body(self.stem(x)).mean((2, 3))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = Backbone(), nn.Linear(16, 3)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


def fit(model, config, batches):
    optimizer = optim.AdamW(model.parameters(), lr=config.lr)
    for _ in range(config.epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


fit(Model(), Config(), [(torch.randn(8, 3, 16, 16), torch.randint(3, (8,))) for _ in range(6)])
