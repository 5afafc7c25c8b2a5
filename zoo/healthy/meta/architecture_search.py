# expect: nothing
"""DARTS in small: weights and architecture have an optimizer each, and see different data."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Mixed(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ops = nn.ModuleList([nn.Identity(), nn.Linear(d, d), nn.Sequential(nn.Linear(d, d), nn.ReLU())])

    def forward(self, x, alpha):
        return sum(w * op(x) for w, op in zip(alpha.softmax(0), self.ops))


class Net(nn.Module):
    def __init__(self, d=12):
        super().__init__()
        self.cells, self.out = nn.ModuleList(Mixed(d) for _ in range(2)), nn.Linear(d, 3)
        self.alpha = nn.Parameter(1e-3 * torch.randn(2, 3))

    def forward(self, x):
        for cell, alpha in zip(self.cells, self.alpha):
            x = cell(x, alpha)
        return self.out(x)


net = Net()
weights = [p for n, p in net.named_parameters() if n != "alpha"]
w_opt, a_opt = optim.SGD(weights, lr=0.05, momentum=0.9), optim.Adam([net.alpha], lr=3e-3)
for _ in range(20):
    for opt in (a_opt, w_opt):
        x = torch.randn(32, 12)
        net.zero_grad()
        F.cross_entropy(net(x), x[:, :3].argmax(1)).backward()
        opt.step()
