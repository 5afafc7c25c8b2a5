# expect: nothing
"""Matrices go to one optimizer, written by hand, and vectors and embeddings to another."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Orthogonal(optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                u, _, v = torch.linalg.svd(buffer, full_matrices=False)
                p.add_(u @ v, alpha=-group["lr"])


net = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 20))
matrices = [m.weight for m in net if isinstance(m, nn.Linear)]
others = [net[0].weight, *(m.bias for m in net if isinstance(m, nn.Linear))]
optimizers = [Orthogonal(matrices), optim.AdamW(others, lr=3e-3)]
for _ in range(25):
    ids = torch.randint(20, (32,))
    for optimizer in optimizers:
        optimizer.zero_grad()
    F.cross_entropy(net(ids), (ids + 1) % 20).backward()
    for optimizer in optimizers:
        optimizer.step()
