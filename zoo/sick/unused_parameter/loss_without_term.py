# expect: unused-parameter at loss_without_term.py:21 in prior.* since step 0
"""A VAE with a learned prior; the KL term that would use it was commented out."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.prior = nn.Linear(1, 4)
        self.encoder = nn.Linear(8, 4)
        self.decoder = nn.Linear(2, 8)

    def forward(self, x):
        prior = self.prior(torch.ones(len(x), 1))
        mean, log_scale = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * log_scale.exp()
        return self.decoder(z), (mean, log_scale), prior


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def training_step(self, x):
        reconstruction, posterior, prior = self.model(x)
        return F.mse_loss(reconstruction, x)

    def fit(self, steps=15):
        for _ in range(steps):
            loss = self.training_step(torch.randn(32, 8))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


Trainer(VAE()).fit()
