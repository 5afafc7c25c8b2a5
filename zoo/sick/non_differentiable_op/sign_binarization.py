# expect: non-differentiable-op at sign_binarization.py:21 in hash.* since step 0
# twin: healthy/quantization/binary_net.py
"""Hashing by sign: codes of plus and minus one, and gradients of zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class HashNet(nn.Module):
    def __init__(self, bits=16):
        super().__init__()
        self.hash = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, bits))
        self.classify = nn.Linear(bits, 4)

    def forward(self, x):
        code = torch.sign(self.hash(x))
        return self.classify(code)


net = HashNet()
optimizer = optim.RMSprop(net.parameters(), lr=1e-3)
centers = torch.randn(4, 20)
for step in range(20):
    y = torch.randint(4, (32,))
    optimizer.zero_grad()
    loss = F.cross_entropy(net(centers[y] + 0.2 * torch.randn(32, 20)), y)
    loss.backward()
    optimizer.step()
