# expect: nothing
"""A normalising flow of coupling layers whose last layers begin at zero."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 2))
        nn.init.zeros_(self.net[2].weight)
        nn.init.zeros_(self.net[2].bias)

    def forward(self, x):
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        scale, shift = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        y = torch.cat([a, b * scale.exp() + shift], 1)
        return (y.flip(1) if self.flip else y), scale.squeeze(1)


flow = nn.ModuleList(Coupling(i % 2 == 1) for i in range(6))
optimizer = optim.Adam(flow.parameters(), lr=3e-3)
prior = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
for step in range(30):
    angle = torch.rand(64) * 6.283
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(64, 2)
    log_det = 0
    for layer in flow:
        x, one = layer(x)
        log_det = log_det + one
    loss = -(prior.log_prob(x) + log_det).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
