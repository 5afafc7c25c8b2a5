# expect: unzeroed-gradient at diffusion_adamw.py:20 since step 1
# twin: healthy/diffusion/ddpm.py
"""A denoiser; optimizer.zero_grad without its parentheses."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.Sequential(nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2))
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for step in range(25):
    x = torch.randn(64, 2).sign() + 0.1 * torch.randn(64, 2)
    t, noise = torch.rand(64, 1), torch.randn(64, 2)
    loss = F.mse_loss(model(torch.cat([(1 - t) * x + t * noise, t], 1)), noise - x)
    optimizer.zero_grad  # noqa: B018
    loss.backward()
    optimizer.step()
