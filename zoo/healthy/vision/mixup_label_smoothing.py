# expect: nothing
"""Mixup, label smoothing and random erasing, with OneCycle."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(
    nn.Conv2d(3, 12, 3, padding=1),
    nn.BatchNorm2d(12),
    nn.Hardswish(),
    nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1, groups=12),
    nn.BatchNorm2d(24),
    nn.ReLU6(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(24, 6),
)
steps = 20
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
for _ in range(steps):
    x, y = torch.randn(16, 3, 12, 12), torch.randint(6, (16,))
    lam = torch.distributions.Beta(0.4, 0.4).sample().item()
    order = torch.randperm(16)
    mixed = lam * x + (1 - lam) * x[order]
    mixed[:, :, 3:6, 3:6] = 0
    out = net(mixed)
    loss = lam * criterion(out, y) + (1 - lam) * criterion(out, y[order])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
