# expect: non-finite-value at log_variance_explodes.py:21 since step 0
# twin: healthy/generative/vae.py
"""A VAE on pixels from 0 to 255, whose log-variance is exponentiated twice: it overflows at once."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, 8), nn.Linear(4, 16)

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        scale = torch.exp(torch.exp(log_variance))
        return self.decoder(mean + torch.randn_like(mean) * scale), mean, log_variance


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(15):
    x = 255 * torch.rand(32, 16)
    out, mean, log_variance = model(x)
    loss = F.mse_loss(out, x) - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
