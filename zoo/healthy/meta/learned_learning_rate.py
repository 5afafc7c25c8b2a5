# expect: nothing
"""Hypergradients: the weight of a regulariser is trained through one virtual step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(6, 1))

    def forward(self, x, w=None):
        return x @ (self.w if w is None else w)


model, log_decay = Model(), nn.Parameter(torch.tensor(-2.0))
inner, outer = optim.SGD(model.parameters(), lr=0.1), optim.Adam([log_decay], lr=0.05)
truth = torch.randn(6, 1)
for step in range(25):
    x, xv = torch.randn(16, 6), torch.randn(16, 6)
    loss = F.mse_loss(model(x), x @ truth) + log_decay.exp() * model.w.square().sum()
    (g,) = torch.autograd.grad(loss, model.w, create_graph=True)
    outer.zero_grad()
    (hyper,) = torch.autograd.grad(F.mse_loss(model(xv, model.w - 0.1 * g), xv @ truth), log_decay)
    log_decay.grad = hyper
    outer.step()
    inner.zero_grad()
    (F.mse_loss(model(x), x @ truth) + log_decay.detach().exp() * model.w.square().sum()).backward()
    inner.step()
