# expect: nothing
"""A GRU over long sequences, with strong clipping."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 24, num_layers=2, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, x):
        return self.fc(self.gru(x)[0][:, -1])


net = Net()
optimizer = optim.Adam(net.parameters(), lr=1e-2)
for _ in range(15):
    x = torch.randn(8, 60, 3)
    optimizer.zero_grad()
    F.mse_loss(net(x), x[:, :5].sum((1, 2)).unsqueeze(1)).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.01)
    optimizer.step()
