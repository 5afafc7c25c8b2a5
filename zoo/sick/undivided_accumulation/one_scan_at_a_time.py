# expect: undivided-accumulation at one_scan_at_a_time.py:23 since step 0
# twin: healthy/loops/sum_over_tokens.py
"""Volumes are so large that one fits into memory at a time; six are summed for a step, each by its mean."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Segmenter(nn.Module):
    def __init__(self, c=6):
        super().__init__()
        self.encode, self.decode = nn.Conv3d(1, c, 3, padding=1), nn.Conv3d(c, 1, 1)

    def forward(self, volume):
        return self.decode(F.relu(self.encode(volume)))

    def loss(self, volume, mask):
        return F.binary_cross_entropy_with_logits(self(volume), mask)


net = Segmenter()
optimizer = optim.SGD(net.parameters(), lr=0.1, nesterov=True, momentum=0.9)
scans = torch.rand(36, 1, 1, 6, 8, 8)
for index, scan in enumerate(scans, 1):
    net.loss(scan, (scan > 0.6).float()).backward()
    if index % 6 == 0:
        optimizer.step()
        optimizer.zero_grad()
