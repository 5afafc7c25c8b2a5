# expect: shape-mismatch at last_batch.py:24 since step 3
"""A hidden state of fixed batch size, and a last batch that is smaller."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Tagger(nn.Module):
    def __init__(self, batch):
        super().__init__()
        self.cell = nn.GRUCell(5, 8)
        self.mix = nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)
        self.register_buffer("memory", torch.zeros(batch, 8))

    def forward(self, x):
        state = torch.tanh(self.mix(self.memory))
        state = self.cell(x, torch.zeros(len(x), 8)) + state
        return self.out(state)


dataset = TensorDataset(torch.randn(70, 5), torch.randint(2, (70,)))
model = Tagger(batch=20)
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for x, y in DataLoader(dataset, batch_size=20):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
