# expect: nothing
"""log_softmax and a negative log-likelihood that is picked by hand."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(100, 16, mode="mean")
        self.out = nn.Linear(16, 4)

    def forward(self, words):
        return F.log_softmax(40 * self.out(self.bag(words)), dim=-1)


net = Net()
optimizer = optim.Adam(net.parameters(), lr=0.05)
for _ in range(40):
    words = torch.randint(100, (32, 9))
    y = words[:, 0] % 4
    log_p = net(words)
    loss = -log_p[torch.arange(32), y].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
