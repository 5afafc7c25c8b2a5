# expect: nothing
"""A VQ-VAE whose codebook is an embedding with a loss of its own; codes that nobody chooses get no gradient."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class VQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 3), nn.Linear(3, 8)
        self.codes = nn.Embedding(64, 3)
        nn.init.uniform_(self.codes.weight, -1 / 64, 1 / 64)

    def forward(self, x):
        z = self.encoder(x)
        distance = z.pow(2).sum(1, keepdim=True) - 2 * z @ self.codes.weight.t() + self.codes.weight.pow(2).sum(1)
        q = self.codes(distance.argmin(1))
        codebook_loss = (q - z.detach()).pow(2).mean()
        commitment = (q.detach() - z).pow(2).mean()
        q = z + (q - z).detach()
        return F.mse_loss(self.decoder(q), x) + codebook_loss + 0.25 * commitment


vq = VQ()
optimizer = optim.AdamW(vq.parameters(), lr=1e-3)
for _ in range(30):
    loss = vq(torch.randn(32, 8))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
