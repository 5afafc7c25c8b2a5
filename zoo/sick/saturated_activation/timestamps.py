# expect: saturated-activation at timestamps.py:22 in forget,candidate since step 0
# twin: healthy/recurrent/neural_ode.py
"""Seconds of the day are fed into the gates of a hand-made recurrent cell as they are."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Minimal(nn.Module):
    def __init__(self, hidden=12):
        super().__init__()
        self.forget, self.candidate = nn.Linear(1 + hidden, hidden), nn.Linear(1 + hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def cell(self, seconds, h):
        both = torch.cat([seconds, h], 1)
        f = torch.sigmoid(self.forget(both))
        return f * h + (1 - f) * torch.tanh(self.candidate(both))

    def forward(self, seconds):
        h = seconds.new_zeros(len(seconds), 12)
        for t in range(seconds.size(1)):
            h = self.cell(seconds[:, t : t + 1], h)
        return self.out(h)


net = Minimal()
optimizer = optim.SGD(net.parameters(), lr=0.01)
for _ in range(25):
    seconds = 86_400 * torch.rand(32, 6)
    optimizer.zero_grad()
    F.mse_loss(net(seconds), seconds.mean(1, keepdim=True) / 86_400).backward()
    optimizer.step()
