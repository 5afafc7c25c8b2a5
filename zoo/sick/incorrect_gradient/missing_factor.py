# expect: incorrect-gradient at missing_factor.py:31 since step 0
# twin: healthy/functions/correct_square.py
"""A custom square whose backward forgets the factor of two."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x


lin1, lin2 = nn.Linear(4, 8), nn.Linear(8, 1)
model = nn.ModuleList([lin1, lin2])
opt = optim.SGD(model.parameters(), lr=0.01)
for step in range(15):
    x = torch.randn(16, 4)
    loss = F.mse_loss(lin2(Square.apply(lin1(x))), x.square().sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()
