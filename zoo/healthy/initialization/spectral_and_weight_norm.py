# expect: nothing
"""Spectral norm in one network and weight norm in another; both compute their weights anew in each forward."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.nn.utils import parametrizations

spectral = nn.Sequential(
    parametrizations.spectral_norm(nn.Linear(6, 24)),
    nn.LeakyReLU(0.1),
    parametrizations.spectral_norm(nn.Linear(24, 1)),
)
weight = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(1, 8, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))
opt_s, opt_w = optim.Adam(spectral.parameters(), lr=1e-3), optim.SGD(weight.parameters(), lr=0.05)
for _ in range(25):
    x = torch.randn(16, 6)
    y = x.abs().sum(1, keepdim=True)
    for net, opt, given in ((spectral, opt_s, x), (weight, opt_w, x[:, None])):
        opt.zero_grad()
        F.mse_loss(net(given), y).backward()
        opt.step()
