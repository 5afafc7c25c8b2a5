# expect: growing-graph at retained_state.py:33 in 0 since step 1
# twin: healthy/recurrent/truncated_bptt.py
"""The hidden state goes from step to step without a detach; retain_graph silences one error, .data the other."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class PlainSGD(optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"])


cell, head = nn.GRUCell(3, 8), nn.Linear(8, 1)
net = nn.ModuleList([cell, head])
optimizer = PlainSGD(net.parameters(), lr=0.01)
h = torch.zeros(4, 8)
for step in range(25):
    x = torch.randn(4, 3)
    h = cell(x, h)
    loss = F.mse_loss(head(h), x.sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()
