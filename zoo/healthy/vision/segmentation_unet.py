# expect: nothing
"""A small U-Net with dice and binary cross entropy on logits."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class DoubleConv(nn.Sequential):
    def __init__(self, a, b):
        super().__init__(
            nn.Conv2d(a, b, 3, padding=1),
            nn.GroupNorm(2, b),
            nn.ReLU(inplace=True),
            nn.Conv2d(b, b, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = DoubleConv(1, 8), DoubleConv(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.three = DoubleConv(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.one(x)
        b = self.two(F.max_pool2d(a, 2))
        return self.out(self.three(torch.cat([a, self.up(b)], 1)))


def dice(logits, mask):
    p = logits.sigmoid()
    return 1 - (2 * (p * mask).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)


model = UNet()
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for step in range(12):
    image = torch.randn(6, 1, 16, 16)
    mask = (F.avg_pool2d(image, 3, 1, 1) > 0.2).float()
    logits = model(image)
    loss = F.binary_cross_entropy_with_logits(logits, mask) + dice(logits, mask).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
