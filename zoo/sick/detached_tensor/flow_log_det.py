# expect: detached-tensor at flow_log_det.py:21 since step 0
# twin: healthy/generative/real_nvp.py
"""A flow whose scales are cut from the graph by .data, so only the shifts are trained through it."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.scale_net, self.shift_net = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        s = torch.tanh(self.scale_net(a)).data
        y = torch.cat([a, b * s.exp() + self.shift_net(a)], 1)
        return (y.flip(1) if self.flip else y), s.sum(1)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 1) for i in range(4))

    def nll(self, x):
        total = 0
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return (0.5 * x.square().sum(1) - total).mean()


flow = Flow()
optimizer = optim.Adam(flow.parameters(), lr=1e-3)
for _ in range(15):
    optimizer.zero_grad()
    flow.nll(torch.randn(64, 2) * torch.tensor([2.0, 0.3])).backward()
    optimizer.step()
