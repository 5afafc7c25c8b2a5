# expect: nothing
"""Pseudo-labels by k-means over detached features, every few steps; the head is reset each time."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 6)), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.features(x))


data = torch.randn(4, 8)[torch.arange(120) % 4] + 0.4 * torch.randn(120, 8)
net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.05, weight_decay=1e-4)
for epoch in range(5):
    with torch.no_grad():
        z = net.features(data)
        centers = z[torch.randperm(120)[:4]]
        for _ in range(5):
            label = torch.cdist(z, centers).argmin(1)
            centers = torch.stack([z[label == k].mean(0) if (label == k).any() else centers[k] for k in range(4)])
        net.head.reset_parameters()
    for i in torch.randperm(120).split(24):
        optimizer.zero_grad()
        F.cross_entropy(net(data[i]), label[i]).backward()
        optimizer.step()
