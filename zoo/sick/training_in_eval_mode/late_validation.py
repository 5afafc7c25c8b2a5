# expect: training-in-eval-mode since step 20
# twin: healthy/loops/validation_between_epochs.py
"""accuracy() switches to eval() after the first epoch, when the first steps have long been seen to be well."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(os.environ.get("SEED", 0)))


def make_loader(n, shuffle):
    x = torch.randn(n, 1, 12, 12)
    y = (x[:, 0, :6].mean((1, 2)) > x[:, 0, 6:].mean((1, 2))).long()
    return DataLoader(TensorDataset(x, y), batch_size=32, shuffle=shuffle)


def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
    return right / len(loader.dataset)


model = nn.Sequential(
    nn.Conv2d(1, 8, 3),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.Conv2d(8, 8, 3),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dropout(0.3),
    nn.Linear(8 * 64, 2),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
train_loader, test_loader = make_loader(640, True), make_loader(128, False)
model.train()
for epoch in range(4):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item(), accuracy(model, test_loader))
