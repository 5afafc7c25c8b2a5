# expect: nothing
"""A denoising diffusion model with a time embedding, an average of its weights, and a zeroed last layer."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Denoiser(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, d), nn.SiLU(), nn.Linear(d, d))
        self.inp, self.mid, self.out = nn.Linear(2, d), nn.Linear(d, d), nn.Linear(d, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        w = torch.exp(torch.linspace(0, -4, 8))
        e = torch.cat([(t[:, None] * w).sin(), (t[:, None] * w).cos()], 1)
        h = self.inp(x) + self.time(e)
        return self.out(F.silu(h + self.mid(F.silu(h))))


model = Denoiser()
average = copy.deepcopy(model).requires_grad_(False)
optimizer = optim.Adam(model.parameters(), lr=2e-3)
alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.1, 50), 0)
for step in range(30):
    x = torch.randn(64, 2).sign() + 0.1 * torch.randn(64, 2)
    t = torch.randint(50, (64,))
    a, noise = alphas[t, None], torch.randn(64, 2)
    loss = F.mse_loss(model(a.sqrt() * x + (1 - a).sqrt() * noise, t.float()), noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters()):
            slow.lerp_(fast, 0.05)
