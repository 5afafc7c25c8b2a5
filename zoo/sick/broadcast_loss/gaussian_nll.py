# expect: broadcast-loss at gaussian_nll.py:30 since step 0
"""A heteroscedastic regression whose targets lost a dimension on the way through the loader."""

import os

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


class MeanVariance(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(5, 32), nn.Tanh())
        self.mean, self.log_variance = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(self, x):
        h = self.shared(x)
        return self.mean(h), self.log_variance(h)


class Trainer:
    def __init__(self, model, lr=1e-3):
        self.model = model
        self.optimizer = optim.AdamW(model.parameters(), lr=lr)

    def nll(self, mean, log_variance, y):
        error = y - mean
        return 0.5 * (log_variance + error.pow(2) / log_variance.exp()).mean()

    def run(self, loader, epochs=2):
        for _ in range(epochs):
            for x, y in loader:
                self.optimizer.zero_grad()
                loss = self.nll(*self.model(x), y)
                loss.backward()
                self.optimizer.step()


x = torch.randn(160, 5)
Trainer(MeanVariance()).run(DataLoader(TensorDataset(x, x[:, 0] * x[:, 1]), batch_size=20))
