# expect: loss-input-mismatch at sigmoid_twice.py:33 since step 0
# twin: healthy/generative/sigmoid_autoencoder.py
"""A segmentation network that ends in a sigmoid, trained with BCEWithLogitsLoss."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.last = nn.Conv2d(9, 1, 1)

    def forward(self, x):
        h = F.relu(self.middle(F.relu(self.down(x))))
        return torch.sigmoid(self.last(torch.cat([self.up(h), x], dim=1)))


model = UNet()
criterion = nn.BCEWithLogitsLoss()
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for step in range(12):
    image = torch.randn(8, 1, 16, 16)
    mask = (F.avg_pool2d(image, 3, 1, 1) > 0.1).float()
    loss = criterion(model(image), mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
