# expect: nothing
"""Domain-adversarial training with a gradient reversal layer."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.strength * grad, None


features = nn.Sequential(nn.Linear(10, 24), nn.ReLU())
label, domain = nn.Linear(24, 3), nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 2))
model = nn.ModuleDict({"features": features, "label": label, "domain": domain})
optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for step in range(30):
    source, target = torch.randn(16, 10), torch.randn(16, 10) + 0.5
    h = features(torch.cat([source, target]))
    domains = torch.arange(2).repeat_interleave(16)
    loss = F.cross_entropy(label(h[:16]), source[:, :3].argmax(1))
    loss = loss + F.cross_entropy(domain(Reverse.apply(h, step / 30)), domains)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
