# expect: nothing
"""Epochs with a validation pass in eval mode, early stopping, and a scheduler on the plateau."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3))

    def forward(self, x):
        return self.layers(x)


x = torch.randn(240, 12)
y = x[:, :3].argmax(1)
train = DataLoader(TensorDataset(x[:180], y[:180]), batch_size=30, shuffle=True)
net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
best = float("inf")
for epoch in range(6):
    net.train()
    for xb, yb in train:
        optimizer.zero_grad()
        F.cross_entropy(net(xb), yb).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        val = F.cross_entropy(net(x[180:]), y[180:]).item()
    plateau.step(val)
    best = min(best, val)
