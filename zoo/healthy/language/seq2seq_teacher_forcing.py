# expect: nothing
"""An encoder and a decoder with scheduled sampling: the decoder's own words are fed back through argmax."""

import os
import random

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Seq2Seq(nn.Module):
    def __init__(self, vocab=20, d=24):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.encoder, self.decoder = nn.GRU(d, d, batch_first=True), nn.GRUCell(d, d)
        self.out = nn.Linear(d, vocab)

    def forward(self, source, target, forcing):
        _, state = self.encoder(self.embed(source))
        state, token, logits = state[0], target[:, 0], []
        for t in range(1, target.size(1)):
            state = self.decoder(self.embed(token), state)
            logits.append(self.out(state))
            token = target[:, t] if random.random() < forcing else logits[-1].argmax(1)
        return torch.stack(logits, 1)


model = Seq2Seq()
optimizer = optim.Adam(model.parameters(), lr=2e-3)
for step in range(20):
    source = torch.randint(20, (8, 6))
    target = torch.cat([torch.zeros(8, 1, dtype=torch.long), source.flip(1)], 1)
    logits = model(source, target, 1 - step / 20)
    loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
