# expect: nothing
"""An energy-based model with short Langevin chains: gradients with respect to the input, within each step."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Energy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def sample(self, n, steps=8):
        x = torch.randn(n, 2)
        for _ in range(steps):
            x.requires_grad_(True)
            (grad,) = torch.autograd.grad(self(x).sum(), x)
            x = (x - 0.1 * grad + 0.05 * torch.randn_like(x)).detach()
        return x


model = Energy()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(20):
    real = torch.randn(32, 2) * 0.2 + 1
    fake = model.sample(32)
    positive, negative = model(real), model(fake)
    loss = positive.mean() - negative.mean() + 0.1 * (positive.square() + negative.square()).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
