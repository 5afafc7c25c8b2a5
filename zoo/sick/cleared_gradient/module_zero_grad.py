# expect: cleared-gradient at module_zero_grad.py:33 since step 0
"""model.zero_grad at the end of a helper that computes the loss and its gradients."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 8), nn.Tanh())
        self.decoder = nn.Linear(8, 20)

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def compute_gradients(self, x):
        loss = F.mse_loss(self(x), x)
        loss.backward()
        self.zero_grad(set_to_none=False)
        return loss.item()


model = Autoencoder()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for step in range(20):
    loss = model.compute_gradients(torch.randn(32, 20))
    optimizer.step()
