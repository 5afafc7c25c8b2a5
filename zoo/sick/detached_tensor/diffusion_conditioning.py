# expect: detached-tensor at diffusion_conditioning.py:22 in context.* since step 0
# twin: healthy/diffusion/ddpm.py
"""A denoiser whose text conditioning is detached on its way into the network."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Denoiser(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.context = nn.Sequential(nn.Embedding(8, width), nn.Linear(width, width))
        self.time = nn.Linear(1, width)
        self.net = nn.Sequential(nn.Linear(2 + width, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t, label):
        condition = self.time(t) + self.context(label).detach()
        return self.net(torch.cat([x, condition], dim=1))


model = Denoiser()
optimizer = optim.AdamW(model.parameters(), lr=2e-3)
alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.2, 20), 0)
for step in range(20):
    label = torch.randint(8, (64,))
    clean = torch.stack([(label * 0.785).cos(), (label * 0.785).sin()], 1) + 0.05 * torch.randn(64, 2)
    t = torch.randint(20, (64,))
    noise = torch.randn_like(clean)
    a = alphas[t].unsqueeze(1)
    predicted = model(a.sqrt() * clean + (1 - a).sqrt() * noise, t.unsqueeze(1) / 20, label)
    loss = F.mse_loss(predicted, noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
