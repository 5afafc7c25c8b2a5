# expect: broadcast-loss at squeezed_prediction.py:21 since step 0
"""The other way round: squeeze() on the predictions, and targets as a column."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
model = nn.LSTM(1, 16, batch_first=True)
head = nn.Linear(16, 1)
both = nn.ModuleList([model, head])
optimizer = optim.Adam(both.parameters(), lr=5e-3)
t = torch.linspace(0, 20, 421)
series = torch.sin(t) + 0.05 * torch.randn(421)
windows = series.unfold(0, 21, 10)
x, y = windows[:, :20].unsqueeze(-1), windows[:, 20:]
for epoch in range(15):
    output, _ = model(x)
    prediction = head(output[:, -1]).squeeze()
    loss = (prediction - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
