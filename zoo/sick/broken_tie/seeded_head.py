# expect: broken-tie in embed.weight,head.weight since step 0
# twin: healthy/language/tiny_gpt.py
"""A generator of names whose output layer was to share the embedding, and got a copy of its values."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
net = nn.ModuleDict({"embed": nn.Embedding(27, 24), "lstm": nn.LSTM(24, 24), "head": nn.Linear(24, 27, bias=False)})
net["head"].weight.data.copy_(net["embed"].weight)
optimizer = optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
names = torch.randint(27, (12, 64))
for step in range(20):
    batch = names[:, torch.randperm(64)[:16]]
    hidden, _ = net["lstm"](net["embed"](batch[:-1]))
    loss = F.cross_entropy(net["head"](hidden).flatten(0, 1), batch[1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
