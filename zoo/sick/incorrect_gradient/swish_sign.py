# expect: incorrect-gradient at swish_sign.py:29 in act since step 0
# twin: healthy/functions/memory_efficient_swish.py
"""A memory-saving swish with a sign wrong in its derivative."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad_output * (s - x * s * (1 - s))


class Swish(nn.Module):
    def forward(self, x):
        return SwishFunction.apply(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.act = Swish()
        self.fc = nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).flatten(1))


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(12):
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.randint(3, (8,))).backward()
    optimizer.step()
