# expect: non-differentiable-op at integer_cast.py:21 in offsets.* since step 0
"""Sampling positions are predicted and cast to indices."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Deformable(nn.Module):
    def __init__(self):
        super().__init__()
        self.offsets = nn.Linear(16, 4)
        self.values = nn.Linear(16, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        where = (torch.sigmoid(self.offsets(x.mean(1))) * 9).long()
        picked = self.values(x).gather(1, where.unsqueeze(-1).expand(-1, -1, 16))
        return self.out(picked.mean(1))


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def train_one_epoch(self, loader):
        for x, y in loader:
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()


loader = [(torch.randn(8, 10, 16), torch.randint(2, (8,))) for _ in range(10)]
trainer = Trainer(Deformable())
for epoch in range(2):
    trainer.train_one_epoch(loader)
