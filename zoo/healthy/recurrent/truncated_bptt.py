# expect: nothing
"""A stateful LSTM: the state goes from batch to batch, detached."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
text = torch.randint(30, (8, 241))
embed, lstm, out = nn.Embedding(30, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 30)
model = nn.ModuleList([embed, lstm, out])
optimizer = optim.SGD(model.parameters(), lr=0.5)
state = None
for start in range(0, 240, 12):
    x, y = text[:, start : start + 12], text[:, start + 1 : start + 13]
    if state is not None:
        state = tuple(s.detach() for s in state)
    hidden, state = lstm(embed(x), state)
    loss = F.cross_entropy(out(hidden).flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
