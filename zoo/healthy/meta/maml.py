# expect: nothing
"""Model-agnostic meta-learning: fast weights, gradients of gradients."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.func import functional_call


class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, x):
        return self.net(x)


def task():
    amplitude, phase = 0.5 + torch.rand(1), 3 * torch.rand(1)
    x = torch.rand(20, 1) * 6 - 3
    return x, amplitude * torch.sin(x + phase)


model = Learner()
meta = optim.Adam(model.parameters(), lr=1e-3)
for iteration in range(15):
    meta.zero_grad()
    total = 0
    for _ in range(3):
        x, y = task()
        fast = dict(model.named_parameters())
        for _ in range(2):
            loss = F.mse_loss(functional_call(model, fast, (x[:10],)), y[:10])
            grads = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {name: p - 0.05 * g for (name, p), g in zip(fast.items(), grads)}
        total = total + F.mse_loss(functional_call(model, fast, (x[10:],)), y[10:])
    (total / 3).backward()
    meta.step()
