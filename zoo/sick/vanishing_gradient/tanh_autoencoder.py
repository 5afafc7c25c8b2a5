# expect: vanishing-gradient in encoder.*,decoder.* since step 0
# twin: healthy/regression/orthogonal_deep.py
"""A deep autoencoder with squashing layers and a gain that is far too small; Adam hides it in the loss."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Autoencoder(nn.Module):
    def __init__(self, depth=6, d=32):
        super().__init__()
        self.encoder = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(d, d), nn.Tanh())])
        self.decoder = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(d, d), nn.Tanh())])
        self.out = nn.Linear(d, d)
        self.apply(self.reset)

    @staticmethod
    def reset(m):
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight, gain=0.15)

    def forward(self, x):
        return self.out(self.decoder(self.encoder(x)))


model = Autoencoder()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(20):
    x = torch.randn(32, 32)
    optimizer.zero_grad()
    F.mse_loss(model(x), x).backward()
    optimizer.step()
