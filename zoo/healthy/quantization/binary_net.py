# expect: nothing
"""A binarised network: sign in the forward, a clipped identity in the backward, as a Function of its own."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class BinaryLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, Sign.apply(self.weight)) / self.in_features**0.5


net = nn.Sequential(BinaryLinear(16, 64), nn.BatchNorm1d(64), nn.Hardtanh(), BinaryLinear(64, 4))
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for _ in range(30):
    x = torch.randn(64, 16)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
    with torch.no_grad():
        for p in net.parameters():
            p.clamp_(-1.5, 1.5)
