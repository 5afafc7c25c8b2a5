# expect: nothing
"""'Free' adversarial training: one backward gives the gradient of the weights and that of the noise."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(net.parameters(), lr=0.05)
noise = torch.zeros(16, 12, requires_grad=True)
for batch in range(10):
    x = torch.randn(16, 12)
    y = x[:, :3].argmax(1)
    for replay in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(x + noise), y).backward()
        with torch.no_grad():
            noise += 0.05 * noise.grad.sign()
            noise.clamp_(-0.1, 0.1)
            noise.grad.zero_()
        optimizer.step()
