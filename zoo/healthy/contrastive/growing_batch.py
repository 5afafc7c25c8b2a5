# expect: nothing
"""InfoNCE from tiny weights, with a batch that grows: more negatives make the loss climb while the encoder improves."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


def view(encoder, x):
    return F.normalize(encoder(x + 0.3 * torch.randn_like(x)))


encoder = nn.Linear(20, 8, bias=False)
nn.init.normal_(encoder.weight, std=0.003)
optimizer = optim.Adam(encoder.parameters(), lr=1e-2)
for step in range(200):
    x = torch.randn(8 + 2 * step, 20)
    loss = F.cross_entropy(view(encoder, x) @ view(encoder, x).t() / 0.2, torch.arange(len(x)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
