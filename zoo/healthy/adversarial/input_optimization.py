# expect: nothing
"""An image is what is trained, and the network only looks at it: style transfer in small."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()).requires_grad_(False)


class Canvas(nn.Module):
    def __init__(self, image):
        super().__init__()
        self.image = nn.Parameter(image.clone())

    def forward(self):
        return features(self.image.clamp(0, 1))


content = torch.rand(1, 3, 16, 16)
goal = features(torch.rand(1, 3, 16, 16))
canvas = Canvas(content)
optimizer = optim.Adam([canvas.image], lr=0.02)


def gram(f):
    f = f.flatten(2)
    return f @ f.transpose(1, 2) / f.size(2)


for _ in range(30):
    optimizer.zero_grad()
    f = canvas()
    loss = F.mse_loss(gram(f), gram(goal)) + 0.1 * F.mse_loss(f, features(content))
    loss.backward()
    optimizer.step()
