# expect: stale-optimizer at weight_norm_afterwards.py:39 in layers.*.original* since step 0
# twin: healthy/initialization/spectral_and_weight_norm.py
"""Weight norm is put on the convolutions when the optimizer already holds the weights that it replaces."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.nn.utils.parametrizations import weight_norm

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Vocoder(nn.Module):
    def __init__(self, c=12):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(c, c, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.first, self.last = nn.Conv1d(1, c, 1), nn.Conv1d(c, 1, 1)

    def add_weight_norm(self):
        for layer in self.layers:
            weight_norm(layer)

    def forward(self, x):
        h = self.first(x)
        for layer in self.layers:
            h = h + torch.tanh(layer(h))
        return self.last(h)


net = Vocoder()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
net.add_weight_norm()
for _ in range(20):
    wave = torch.randn(8, 1, 40).cumsum(2) / 6
    optimizer.zero_grad()
    F.l1_loss(net(wave[..., :-1]), wave[..., 1:]).backward()
    optimizer.step()
