# expect: non-finite-value at magnitude_of_silence.py:19 since step 0
# twin: healthy/numerics/logsumexp.py
"""A loss of magnitudes in a script: where there is silence, the root has an infinite derivative."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.Conv1d(1, 2, 9, padding=4)
optimizer = optim.SGD(net.parameters(), lr=0.05)
for step in range(12):
    sound = torch.randn(8, 1, 64)
    sound[:, :, 48:] = 0
    masked = net(sound) * (sound != 0)
    real, imaginary = masked.chunk(2, 1)
    magnitude = (real**2 + imaginary**2).sqrt()
    loss = F.l1_loss(magnitude, sound.abs())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
