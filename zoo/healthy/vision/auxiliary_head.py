# expect: nothing
"""An inception-like network whose auxiliary head takes part in the first epoch only."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
        self.aux, self.main = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x, with_aux):
        h = self.stem(x)
        aux = self.aux(h.mean((2, 3))) if with_aux else None
        return self.main(self.body(h).mean((2, 3))), aux


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.05)
for epoch in range(3):
    for _ in range(6):
        x, y = torch.randn(8, 1, 12, 12), torch.randint(3, (8,))
        out, aux = net(x, epoch == 0)
        loss = F.cross_entropy(out, y)
        if aux is not None:
            loss = loss + 0.3 * F.cross_entropy(aux, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
