# expect: nothing
"""An ODE layer with the continuous adjoint: its backward calls autograd.grad in each of forty small steps."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
STEPS = 40


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 32), nn.Linear(32, 2)

    def forward(self, y):
        return self.outer(torch.tanh(self.inner(y)))


class Integral(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, field, *parameters):
        with torch.no_grad():
            for _ in range(STEPS):
                y = y + field(y) / STEPS
        ctx.field, ctx.parameters = field, parameters
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, adjoint):
        (y,) = ctx.saved_tensors
        gradients = [torch.zeros_like(each) for each in ctx.parameters]
        for _ in range(STEPS):
            with torch.enable_grad():
                y = y.detach().requires_grad_()
                slope = ctx.field(y)
            by_y, *by_parameters = torch.autograd.grad(slope, (y, *ctx.parameters), adjoint)
            y, adjoint = y - slope.detach() / STEPS, adjoint + by_y / STEPS
            gradients = [sum_ + each / STEPS for sum_, each in zip(gradients, by_parameters, strict=True)]
        return adjoint, None, *gradients


field = Field()
optimizer = optim.Adam(field.parameters(), lr=1e-2)
rotation = torch.tensor([[0.5, 1.0], [-1.0, 0.5]])
for _ in range(30):
    x = torch.randn(64, 2)
    loss = (Integral.apply(x, field, *field.parameters()) - x @ rotation).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
