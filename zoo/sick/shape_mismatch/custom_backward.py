# expect: shape-mismatch at custom_backward.py:31 since step 0
"""A custom matrix product whose backward returns a transposed gradient."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight.t(), grad.t() @ x


class Projection(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 4) / 3)

    def forward(self, x):
        return Project.apply(x, self.weight)


model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), Projection())
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(5, 6)), torch.randint(4, (5,))).backward()
    optimizer.step()
