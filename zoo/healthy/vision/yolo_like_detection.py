# expect: nothing
"""A grid of cells: boxes count where there is an object only, and most cells have none."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Grid(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.Conv2d(8, 16, 3, 2, 1), nn.LeakyReLU(0.1)
        )
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        out = self.head(self.net(x)).permute(0, 2, 3, 1)
        return out[..., 0], out[..., 1:]


model = Grid()
optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for _ in range(15):
    x = torch.randn(8, 1, 16, 16)
    present = torch.rand(8, 4, 4) < 0.05
    present[0, 0, 0] = True
    score, box = model(x)
    loss = F.binary_cross_entropy_with_logits(score, present.float())
    loss = loss + 5 * F.smooth_l1_loss(box[present].sigmoid(), torch.rand(int(present.sum()), 4))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
