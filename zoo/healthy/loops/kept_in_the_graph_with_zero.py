# expect: nothing
"""A head without labels in this run is added with a weight of zero, as distributed training needs it."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.main = nn.Sequential(nn.Linear(10, 24), nn.ReLU()), nn.Linear(24, 3)
        self.extra = nn.Linear(24, 5)

    def forward(self, x):
        h = self.body(x)
        return self.main(h), self.extra(h)


net = Net()
optimizer = optim.AdamW(net.parameters(), lr=1e-3)
for step in range(30):
    x = torch.randn(16, 10)
    main, extra = net(x)
    loss = F.cross_entropy(main, x[:, :3].argmax(1))
    if step % 10 == 9:
        loss = loss + F.cross_entropy(extra, x[:, :5].argmax(1))
    else:
        loss = loss + 0.0 * extra.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
