# expect: stale-optimizer at assigned_state.py:28 in [02].* since step 6
# twin: healthy/loops/load_state_dict.py
"""load_state_dict(assign=True) puts new parameters in the place of those that the optimizer knows."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def restore(self, state):
        self.model.load_state_dict(state, assign=True)

    def fit(self, steps):
        for _ in range(steps):
            x = torch.randn(16, 8)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), x[:, :2].argmax(1)).backward()
            self.optimizer.step()


model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 2))
saved = {k: v.clone() for k, v in copy.deepcopy(model).state_dict().items()}
trainer = Trainer(model)
trainer.fit(6)
trainer.restore(saved)
trainer.fit(16)
