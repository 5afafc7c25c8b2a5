# expect: detached-tensor at numpy_pooling.py:22 in features.* since step 0
# twin: healthy/loops/numpy_metrics.py
"""A pooling that somebody wrote with numpy, in the middle of a network."""

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
        self.classifier = nn.Linear(6 * 25, 4)

    def pool(self, maps):
        array = maps.detach().numpy()
        n, c, h, w = array.shape
        array = array.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
        return torch.from_numpy(np.ascontiguousarray(array))

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


model = Pooled()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for step in range(12):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(8, 1, 12, 12)), torch.randint(4, (8,)))
    loss.backward()
    optimizer.step()
