# expect: incorrect-gradient at clipped_exp.py:32 since step 0
"""A clamped exponential: the backward forgets that the clamp has a derivative of zero outside."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SafeExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.clamp(-0.5, 0.5).exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


class Density(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 2))

    def nll(self, x, y):
        mean, log_scale = self.net(x).mul(3).chunk(2, 1)
        precision = SafeExp.apply(log_scale)
        return (0.5 * ((y - mean) * precision).square() - log_scale).mean()


model = Density()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(15):
    x = torch.randn(64, 3)
    optimizer.zero_grad()
    model.nll(x, x.sum(1, keepdim=True)).backward()
    optimizer.step()
