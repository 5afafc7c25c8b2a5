# expect: nothing
"""A VQ-VAE: straight-through codes, a commitment loss, and a codebook that is averaged and not trained."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Quantizer(nn.Module):
    def __init__(self, codes=16, d=4):
        super().__init__()
        self.register_buffer("codebook", torch.randn(codes, d))

    def forward(self, z):
        index = torch.cdist(z, self.codebook).argmin(1)
        q = self.codebook[index]
        if self.training:
            with torch.no_grad():
                for k in index.unique():
                    self.codebook[k].lerp_(z[index == k].mean(0), 0.1)
        commitment = F.mse_loss(z, q.detach())
        return z + (q - z).detach(), commitment


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        self.quantizer = Quantizer()
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        q, commitment = self.quantizer(self.encoder(x))
        return F.mse_loss(self.decoder(q), x) + 0.25 * commitment


model = VQVAE()
optimizer = optim.Adam(model.parameters(), lr=2e-3)
for _ in range(30):
    optimizer.zero_grad()
    model(torch.randn(64, 10)).backward()
    optimizer.step()
