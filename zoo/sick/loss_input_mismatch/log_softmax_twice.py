# expect: loss-input-mismatch at log_softmax_twice.py:17 since step 0
"""KL divergence with probabilities where log-probabilities belong, in distillation."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
teacher, student = nn.Linear(8, 5), nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5))
optimizer = optim.SGD(student.parameters(), lr=0.1)
kl = nn.KLDivLoss(reduction="batchmean")
for _ in range(20):
    x = torch.randn(32, 8)
    with torch.no_grad():
        soft = teacher(x).softmax(1)
    loss = kl(student(x).softmax(1), soft)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
