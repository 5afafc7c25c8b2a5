# expect: nothing
"""A spiking network with a surrogate gradient."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (10 * v.abs() + 1) ** 2


class SNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(10, 40), nn.Linear(40, 3)

    def forward(self, x):
        v, total = torch.zeros(len(x), 40), 0
        for t in range(8):
            v = 0.9 * v + self.inp(x)
            s = Spike.apply(v - 1)
            v = v - s.detach()
            total = total + self.out(s)
        return total / 8


net = SNN()
optimizer = optim.Adam(net.parameters(), lr=5e-3)
for _ in range(25):
    x = 2 * torch.randn(32, 10)
    optimizer.zero_grad()
    F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
    optimizer.step()
