# expect: nothing
"""Weights are averaged in the second half, and batch norm is measured anew for the average."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

x = torch.randn(160, 8)
loader = DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=32)
model = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 3))
optimizer = optim.SGD(model.parameters(), lr=0.1)
averaged, schedule = AveragedModel(model), SWALR(optimizer, swa_lr=0.05)
for epoch in range(6):
    for xb, yb in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(xb), yb).backward()
        optimizer.step()
    if epoch >= 3:
        averaged.update_parameters(model)
        schedule.step()
update_bn(loader, averaged)
