# expect: nothing
"""Only the eight largest of 128 activations are kept, as in a sparse autoencoder."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class TopK(nn.Module):
    def __init__(self, d=16, width=128, k=8):
        super().__init__()
        self.encode, self.decode, self.k = nn.Linear(d, width), nn.Linear(width, d, bias=False), k
        self.bias = nn.Parameter(torch.zeros(d))

    def forward(self, x):
        z = F.relu(self.encode(x - self.bias))
        values, index = z.topk(self.k, dim=1)
        return self.decode(torch.zeros_like(z).scatter(1, index, values)) + self.bias


sae = TopK()
optimizer = optim.Adam(sae.parameters(), lr=2e-3)
basis = F.normalize(torch.randn(64, 16), dim=1)
for _ in range(30):
    x = (torch.rand(64, 64) < 0.05).float() @ basis
    optimizer.zero_grad()
    F.mse_loss(sae(x), x).backward()
    optimizer.step()
    with torch.no_grad():
        sae.decode.weight.copy_(F.normalize(sae.decode.weight, dim=0))
