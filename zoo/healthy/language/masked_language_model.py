# expect: nothing
"""A BERT-like model: 15 % of the tokens count, the others are ignored; the head is tied."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Bert(nn.Module):
    def __init__(self, vocab=60, d=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.position = nn.Parameter(torch.zeros(1, 12, d))
        layer = nn.TransformerEncoderLayer(d, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.bias = nn.Parameter(torch.zeros(vocab))

    def forward(self, ids):
        h = self.encoder(self.embed(ids) + self.position)
        return F.linear(h, self.embed.weight, self.bias)


model = Bert()
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(20):
    ids = torch.randint(2, 60, (8, 12))
    chosen = torch.rand(8, 12) < 0.15
    chosen[0, 0] = True
    labels = torch.where(chosen, ids, -100)
    masked = torch.where(chosen & (torch.rand(8, 12) < 0.8), 1, ids)
    loss = F.cross_entropy(model(masked).transpose(1, 2), labels, ignore_index=-100)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
