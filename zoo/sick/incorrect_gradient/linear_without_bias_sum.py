# expect: incorrect-gradient at linear_without_bias_sum.py:32 since step 0
"""A custom linear layer: the gradient of the bias is the mean over the batch and not the sum."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return x @ weight.t() + bias

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ x, grad.mean(0)


class MyLinear(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return LinearFunction.apply(x, self.weight, self.bias)


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optim = optim.AdamW(model.parameters(), lr=1e-3)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.randn(16, 6)
            self.optim.zero_grad()
            F.mse_loss(self.model(x), x.abs().sum(1, keepdim=True)).backward()
            self.optim.step()


Trainer(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), MyLinear(12, 1))).fit(15)
