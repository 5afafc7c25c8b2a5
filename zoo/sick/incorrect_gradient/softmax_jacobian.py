# expect: incorrect-gradient at softmax_jacobian.py:34 since step 0
"""A softmax with the derivative of a sigmoid: the off-diagonal part of the Jacobian is missing."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores):
        weights = scores.softmax(-1)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx, grad):
        (weights,) = ctx.saved_tensors
        return grad * weights * (1 - weights)


class Attention(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, 2)

    def forward(self, x):
        scores = self.q(x) @ self.k(x).transpose(1, 2) / x.size(-1) ** 0.5
        attended = Softmax.apply(scores) @ self.v(x)
        return self.out(attended.mean(1))


model = Attention()
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(15):
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(8, 5, 8)), torch.randint(2, (8,))).backward()
    optimizer.step()
