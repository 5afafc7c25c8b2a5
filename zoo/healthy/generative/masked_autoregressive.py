# expect: nothing
"""A masked autoencoder for distribution estimation: half of each weight matrix is masked, for good."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MaskedLinear(nn.Linear):
    def __init__(self, n_in, n_out, mask):
        super().__init__(n_in, n_out)
        self.register_buffer("mask", mask.float())

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


d, h = 8, 32
order, hidden = torch.arange(d), torch.randint(0, d - 1, (h,))
made = nn.Sequential(
    MaskedLinear(d, h, hidden[:, None] >= order[None, :]),
    nn.ReLU(),
    MaskedLinear(h, d, order[:, None] > hidden[None, :]),
)
optimizer = optim.Adam(made.parameters(), lr=1e-2)
for _ in range(30):
    x = (torch.rand(64, d) < 0.5).float().cummax(1).values
    optimizer.zero_grad()
    F.binary_cross_entropy_with_logits(made(x), x).backward()
    optimizer.step()
