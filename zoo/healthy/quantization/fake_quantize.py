# expect: nothing
"""torch.fake_quantize with observed ranges."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Observed(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("top", torch.zeros(()))

    def forward(self, x):
        with torch.no_grad():
            self.top.copy_(torch.maximum(self.top * 0.99, x.abs().max()))
        return torch.fake_quantize_per_tensor_affine(x, float(self.top / 127 + 1e-8), 0, -128, 127)


net = nn.Sequential(Observed(), nn.Conv2d(1, 6, 3), nn.ReLU(), Observed(), nn.Flatten(), nn.Linear(6 * 64, 4))
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(20):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(8, 1, 10, 10)), torch.randint(4, (8,))).backward()
    optimizer.step()
