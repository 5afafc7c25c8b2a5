# expect: nothing
"""Flow matching with classifier-free guidance: labels are dropped at random, for the learned null label."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Velocity(nn.Module):
    def __init__(self, classes=4, d=48):
        super().__init__()
        self.label = nn.Embedding(classes + 1, d)
        self.first, self.last = nn.Linear(3, d), nn.Linear(d, 2)
        self.modulate = nn.Linear(d, 2 * d)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x, t, y):
        h = self.first(torch.cat([x, t], 1))
        scale, shift = self.modulate(F.silu(self.label(y))).chunk(2, 1)
        return self.last(F.gelu(F.layer_norm(h, h.shape[1:]) * (1 + scale) + shift))


model = Velocity()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(30):
    y = torch.randint(4, (64,))
    x1 = torch.stack([(y * 1.57).cos(), (y * 1.57).sin()], 1)
    x0, t = torch.randn(64, 2), torch.rand(64, 1)
    y = torch.where(torch.rand(64) < 0.2, 4, y)
    loss = F.mse_loss(model((1 - t) * x0 + t * x1, t, y), x1 - x0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
