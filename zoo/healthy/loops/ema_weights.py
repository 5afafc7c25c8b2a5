# expect: nothing
"""An exponential average of the weights, swapped in for evaluation and out again."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class EMA:
    def __init__(self, model, decay=0.95):
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.decay = decay

    def update(self, model):
        for k, v in model.state_dict().items():
            self.shadow[k].lerp_(v, 1 - self.decay)

    def evaluate(self, model, x, y):
        backup = copy.deepcopy(model.state_dict())
        model.load_state_dict(self.shadow)
        model.eval()
        with torch.no_grad():
            accuracy = (model(x).argmax(1) == y).float().mean().item()
        model.load_state_dict(backup)
        model.train()
        return accuracy


model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 3))
optimizer = optim.SGD(model.parameters(), lr=0.1)
ema = EMA(model)
for step in range(40):
    x = torch.randn(32, 8)
    y = x[:, :3].argmax(1)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    ema.update(model)
    if step % 10 == 9:
        print(ema.evaluate(model, x, y))
