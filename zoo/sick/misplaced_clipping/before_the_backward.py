# expect: misplaced-clipping at before_the_backward.py:23 in rnn.*,out.* since step 0
# twin: healthy/recurrent/clipped_gru.py
"""Gradients are clipped before there are any: the line stands above the backward."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Forecaster(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1]).squeeze(1)

    def clip(self, limit=0.5):
        nn.utils.clip_grad_norm_(self.parameters(), limit)


net = Forecaster()
optimizer = optim.Adam(net.parameters(), lr=1e-3)
for _ in range(25):
    x = torch.randn(16, 20, 2).cumsum(1)
    loss = F.mse_loss(net(x), x[:, -1].sum(1))
    optimizer.zero_grad()
    net.clip()
    loss.backward()
    optimizer.step()
