# expect: nothing
"""An autoencoder of images in [0, 1]: sigmoid at the end, and a squared error."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, 2, 1),
    nn.ReLU(),
    nn.Conv2d(8, 4, 3, 2, 1),
    nn.ReLU(),
    nn.ConvTranspose2d(4, 8, 2, 2),
    nn.ReLU(),
    nn.ConvTranspose2d(8, 1, 2, 2),
    nn.Sigmoid(),
)
optimizer = optim.Adam(model.parameters(), lr=2e-3)
for _ in range(20):
    x = F.interpolate(torch.rand(16, 1, 4, 4), scale_factor=4)
    noisy = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    optimizer.zero_grad()
    F.mse_loss(model(noisy), x).backward()
    optimizer.step()
