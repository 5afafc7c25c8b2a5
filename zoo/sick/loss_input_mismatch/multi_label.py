# expect: loss-input-mismatch at multi_label.py:29 since step 0
"""A multi-label graph classifier: the sigmoid is in forward, and the loss has its own; Adam and a Trainer."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x, adjacency):
        h = F.relu(adjacency @ self.one(x))
        return self.two(adjacency @ h).sigmoid()


class Trainer:
    def __init__(self, model):
        self.model, self.optimizer = model, optim.Adam(model.parameters(), lr=1e-2)

    def epoch(self, x, adjacency, y):
        self.optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(self.model(x, adjacency), y)
        loss.backward()
        self.optimizer.step()


a = (torch.rand(25, 25) < 0.15).float() + torch.eye(25)
trainer = Trainer(GCN())
for _ in range(20):
    trainer.epoch(torch.randn(25, 6), a / a.sum(1, keepdim=True), torch.randint(2, (25, 4)).float())
