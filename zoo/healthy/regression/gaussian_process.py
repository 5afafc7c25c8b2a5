# expect: nothing
"""A Gaussian process by its marginal likelihood: a column against a row is what a kernel is."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class GP(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_length, self.log_scale, self.log_noise = (nn.Parameter(torch.tensor(v)) for v in (0.0, 0.0, -2.0))

    def forward(self, x):
        d = x[:, None] - x[None, :]
        k = self.log_scale.exp() * torch.exp(-0.5 * (d / self.log_length.exp()) ** 2)
        return k + (self.log_noise.exp() + 1e-4) * torch.eye(len(x))


x = torch.linspace(-3, 3, 30)
y = torch.sin(2 * x) + 0.1 * torch.randn(30)
gp = GP()
optimizer = optim.Adam(gp.parameters(), lr=0.05)
for _ in range(30):
    loss = -torch.distributions.MultivariateNormal(torch.zeros(30), gp(x)).log_prob(y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
