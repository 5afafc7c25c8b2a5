# expect: detached-tensor at data_attribute.py:19 in embed.* since step 0
"""Embeddings are normalised through .data, which has no graph."""

import os

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(int(os.environ.get("SEED", 0)))
embed = nn.Embedding(30, 8)
rnn = nn.GRU(8, 16, batch_first=True)
out = nn.Linear(16, 30)
model = nn.ModuleDict({"embed": embed, "rnn": rnn, "out": out})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for it in range(15):
    seq = torch.randint(0, 30, (4, 9))
    vectors = embed(seq[:, :-1])
    vectors = vectors.data / vectors.norm(dim=-1, keepdim=True).data
    hidden, _ = rnn(vectors)
    loss = F.cross_entropy(out(hidden).transpose(1, 2), seq[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
