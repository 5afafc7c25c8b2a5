# expect: nothing
"""An identity that clips the gradient, in a recurrent network."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class ClipGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(-0.01, 0.01)


cell, head = nn.RNNCell(3, 16), nn.Linear(16, 1)
net = nn.ModuleList([cell, head])
optimizer = optim.SGD(net.parameters(), lr=0.1)
for _ in range(20):
    x, h = torch.randn(16, 12, 3), torch.zeros(16, 16)
    for t in range(12):
        h = ClipGradient.apply(cell(x[:, t], h))
    optimizer.zero_grad()
    F.mse_loss(head(h), x.sum((1, 2))[:, None]).backward()
    optimizer.step()
