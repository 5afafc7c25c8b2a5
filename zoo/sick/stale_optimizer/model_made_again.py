# expect: stale-optimizer at model_made_again.py:28 in [02].* since step 0
# twin: healthy/loops/optimizer_made_anew.py
"""Cells of a notebook, run out of order: the network is made once more, the optimizer is the one of before."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
features, classes = 9, 3


def make():
    return nn.Sequential(nn.Linear(features, 24), nn.Softplus(), nn.Linear(24, classes))


network = make()
optimizer = optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
network = make()
for epoch in range(20):
    x = torch.randn(64, features)
    y = x[:, :classes].argmax(1)
    optimizer.zero_grad()
    loss = F.cross_entropy(network(x), y)
    loss.backward()
    optimizer.step()
