# expect: repeated-step at inner_loop_without_backward.py:30 since step 0
"""Five steps for each backward: the inner loop was to compute the loss anew."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 12, batch_first=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        return self.fc(self.gru(x)[1][-1])


net = Encoder()
opt = optim.RMSprop(net.parameters(), lr=1e-4)
for epoch in range(8):
    loss = F.cross_entropy(net(torch.randn(12, 7, 4)), torch.randint(3, (12,)))
    opt.zero_grad()
    loss.backward()
    for _ in range(5):
        opt.step()
