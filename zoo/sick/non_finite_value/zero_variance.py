# expect: non-finite-value at zero_variance.py:16 by step 12
"""Standardisation by hand, without an eps: a batch with one constant feature divides by zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Standardize(nn.Module):
    def forward(self, x):
        return (x - x.mean(0)) / x.std(0)


class Trainer:
    def __init__(self):
        self.model = nn.Sequential(Standardize(), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)

    def fit(self, loader):
        for x, y in loader:
            self.optimizer.zero_grad()
            F.mse_loss(self.model(x), y).backward()
            self.optimizer.step()


x = torch.randn(240, 6)
x[100:120, 2] = 0
Trainer().fit(DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=20))
