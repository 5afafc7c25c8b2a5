# expect: nothing
"""Discrete tokens by gumbel_softmax(hard=True): a choice in the forward, a softmax in the backward."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Speaker(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(8, 12)
        self.words = nn.Linear(12, 3)
        self.decode = nn.Linear(12, 8)

    def forward(self, x):
        message = F.gumbel_softmax(self.encode(x), tau=0.8, hard=True)
        return self.decode(message)


model = Speaker()
optimizer = optim.Adam([*model.encode.parameters(), *model.decode.parameters()], lr=5e-3)
for _ in range(30):
    x = F.one_hot(torch.randint(8, (32,)), 8).float()
    optimizer.zero_grad()
    F.cross_entropy(model(x), x.argmax(1)).backward()
    optimizer.step()
