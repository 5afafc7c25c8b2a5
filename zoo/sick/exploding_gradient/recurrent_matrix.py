# expect: exploding-gradient at recurrent_matrix.py:26 in cell.weight since step 0
# twin: healthy/recurrent/orthogonal_by_hand.py
"""A linear recurrence with a matrix of spectral radius above one, unrolled over many cells."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Recurrence(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.read = nn.Linear(3, hidden)
        self.cell = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)
        with torch.no_grad():
            self.cell.weight.normal_(std=3.0 / hidden**0.5)

    def forward(self, x):
        h = torch.zeros(x.size(0), 32)
        for t in range(x.size(1)):
            h = self.cell(h) + self.read(x[:, t])
        return self.out(h)


model = Recurrence()
optimizer = optim.SGD(model.parameters(), lr=0.01)
for _ in range(12):
    x = torch.randn(16, 25, 3)
    optimizer.zero_grad()
    F.l1_loss(model(x), x.sum((1, 2)).unsqueeze(1)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
