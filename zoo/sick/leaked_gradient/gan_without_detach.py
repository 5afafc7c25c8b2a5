# expect: leaked-gradient at gan_without_detach.py:23 in [02].* by step 3
# twin: healthy/gans/plain_gan.py
"""The critic's loss flows into the generator, which is never cleared before its own backward."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
G = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
D = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
g_opt, d_opt = optim.Adam(G.parameters(), lr=1e-3), optim.Adam(D.parameters(), lr=1e-3)
for _ in range(30):
    real = torch.randn(32, 2) + 2
    d_opt.zero_grad()
    d_loss = F.softplus(-D(real)).mean() + F.softplus(D(G(torch.randn(32, 4)))).mean()
    d_loss.backward()
    d_opt.step()
    g_loss = F.softplus(-D(G(torch.randn(32, 4)))).mean()
    g_loss.backward()
    g_opt.step()
    g_opt.zero_grad()
