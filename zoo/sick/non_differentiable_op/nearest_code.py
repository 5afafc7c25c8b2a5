# expect: non-differentiable-op at nearest_code.py:23 in encoder.* since step 0
# twin: healthy/generative/vq_vae.py
"""A VQ-VAE without its straight-through line."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        self.codes = nn.Embedding(16, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        z = self.encoder(x)
        nearest = torch.cdist(z, self.codes.weight).argmin(dim=1)
        return F.mse_loss(self.decoder(self.codes(nearest)), x)


model = VQVAE()
optimizer = optim.Adam(model.parameters(), lr=2e-3)
for _ in range(20):
    optimizer.zero_grad()
    model(torch.randn(64, 10)).backward()
    optimizer.step()
