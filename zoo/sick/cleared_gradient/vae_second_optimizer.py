# expect: cleared-gradient at vae_second_optimizer.py:34 since step 0
"""A VAE with an optimizer for each half; the decoder's is cleared as soon as the encoder has stepped."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class VAE(nn.Module):
    def __init__(self, width=12, latent=3):
        super().__init__()
        self.encoder = nn.Linear(width, 2 * latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 16), nn.ReLU(), nn.Linear(16, width))

    def loss(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        return (F.mse_loss(self.decoder(z), x, reduction="none").sum(1) + kl).mean()


vae = VAE()
encoder_opt = optim.Adam(vae.encoder.parameters(), lr=1e-3)
decoder_opt = optim.Adam(vae.decoder.parameters(), lr=1e-3)
for _ in range(20):
    encoder_opt.zero_grad()
    vae.loss(torch.randn(32, 12)).backward()
    encoder_opt.step()
    decoder_opt.zero_grad()
    decoder_opt.step()
