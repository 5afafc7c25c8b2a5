# expect: nothing
"""Logistic regression from zero weights, one sample at a time: some samples are much harder than the first."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
truth = torch.randn(5)
model = nn.Linear(5, 1)
nn.init.zeros_(model.weight)
nn.init.zeros_(model.bias)
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(600):
    x = torch.randn(1, 5)
    label = torch.bernoulli(torch.sigmoid(2 * x @ truth)).view(1, 1)
    loss = F.binary_cross_entropy_with_logits(model(x), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
