# expect: stale-optimizer since step 40
"""When the learning rate drops, training goes on with a copy of the best model; the optimizer keeps the old one."""

import copy
import os

import torch
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        value = nn.functional.l1_loss(model(x), y).item()
    model.train()
    return value


X = torch.randn(400, 6)
Y = torch.sin(X[:, :1]) + X[:, 1:2] * X[:, 2:3]
model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
best, best_model = float("inf"), None
for epoch in range(12):
    for i in range(10):
        idx = torch.randint(0, 320, (32,))
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X[idx]), Y[idx])
        loss.backward()
        optimizer.step()
    val = evaluate(model, X[320:], Y[320:])
    if val < best:
        best, best_model = val, copy.deepcopy(model)
    if epoch == 3:
        model = copy.deepcopy(best_model)
        for group in optimizer.param_groups:
            group["lr"] *= 0.1
    print(epoch, val)
