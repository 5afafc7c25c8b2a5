# expect: nothing
"""Adversarial training by projected gradient descent: the input has a gradient, and the weights get some on the way."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 4)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).flatten(1))


def attack(model, x, y, eps=0.1, steps=3):
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(steps):
        F.cross_entropy(model(x + delta), y).backward()
        with torch.no_grad():
            delta += 0.05 * delta.grad.sign()
            delta.clamp_(-eps, eps)
            delta.grad.zero_()
    return (x + delta).detach()


model = Net()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for _ in range(15):
    x, y = torch.randn(16, 1, 8, 8), torch.randint(4, (16,))
    adversarial = attack(model, x, y)
    optimizer.zero_grad()
    F.cross_entropy(model(adversarial), y).backward()
    optimizer.step()
