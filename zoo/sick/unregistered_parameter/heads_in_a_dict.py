# expect: unregistered-parameter at heads_in_a_dict.py:21 in heads* since step 0
"""Heads of several tasks in a plain dict."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MultiTask(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 24), nn.ReLU())
        self.heads = {name: nn.Linear(24, n) for name, n in tasks.items()}

    def forward(self, x):
        h = self.trunk(x)
        return {name: head(h) for name, head in self.heads.items()}


class Trainer:
    def __init__(self, model):
        self.model, self.opt = model, optim.Adam(model.parameters(), lr=1e-3)

    def step(self, x):
        out = self.model(x)
        loss = F.cross_entropy(out["kind"], x[:, :3].argmax(1)) + F.mse_loss(out["size"], x[:, :1])
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()


trainer = Trainer(MultiTask({"kind": 3, "size": 1}))
for _ in range(20):
    trainer.step(torch.randn(16, 10))
