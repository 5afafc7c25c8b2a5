# expect: nothing
"""Three losses, each logged as a number and summed as a tensor."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 24), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(24, 1), "b": nn.Linear(24, 4), "c": nn.Linear(24, 2)})

    def forward(self, x):
        h = self.trunk(x)
        return {name: head(h) for name, head in self.heads.items()}


model = MultiTask()
optimizer = optim.SGD(model.parameters(), lr=0.02)
log = []
for _ in range(30):
    x = torch.randn(16, 10)
    out = model(x)
    losses = {
        "a": F.mse_loss(out["a"].squeeze(1), x.sum(1)),
        "b": F.cross_entropy(out["b"], x[:, :4].argmax(1)),
        "c": F.cross_entropy(out["c"], (x[:, 0] > 0).long()),
    }
    log.append({name: loss.item() for name, loss in losses.items()})
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
