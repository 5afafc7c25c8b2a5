# expect: nothing
"""A frozen backbone in eval mode, a head that is trained."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
backbone.eval().requires_grad_(False)
head = nn.Linear(8, 3)
model = nn.Sequential(backbone, head)
optimizer = optim.SGD(head.parameters(), lr=0.1)
for _ in range(20):
    with torch.no_grad():
        features = backbone(torch.randn(16, 3, 10, 10))
    optimizer.zero_grad()
    F.cross_entropy(head(features), torch.randint(3, (16,))).backward()
    optimizer.step()
