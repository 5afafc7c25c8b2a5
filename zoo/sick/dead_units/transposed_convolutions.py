# expect: dead-units at transposed_convolutions.py:21 in first.*,norm.* since step 0
"""A generator's ReLU after a batch norm whose shift was loaded with a wrong sign and scale."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = nn.ConvTranspose2d(4, 8, 4), nn.BatchNorm2d(8), nn.ReLU()
        self.second = nn.ConvTranspose2d(8, 1, 4, 2, 1)
        nn.init.constant_(self.norm.bias, -12.0)

    def forward(self, z):
        return torch.tanh(self.second(self.act(self.norm(self.first(z)))))


net = Generator()
optimizer = optim.Adam(net.parameters(), lr=2e-4)
target = torch.rand(1, 1, 8, 8)
for _ in range(30):
    z = torch.randn(16, 4, 1, 1)
    optimizer.zero_grad()
    F.mse_loss(net(z), target.expand(16, -1, -1, -1)).backward()
    optimizer.step()
