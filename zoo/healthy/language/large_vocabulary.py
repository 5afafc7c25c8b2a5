# expect: nothing
"""A language model over 5,000 words: most rows of the embedding get no gradient in a step, the others tiny ones."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LM(nn.Module):
    def __init__(self, vocab=5000, d=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.lstm = nn.LSTM(d, d, 2, batch_first=True, dropout=0.2)
        self.decode = nn.Linear(d, vocab)

    def forward(self, x):
        return self.decode(self.lstm(self.embed(x))[0])


model = LM()
optimizer = optim.SGD(model.parameters(), lr=1.0)
for step in range(15):
    text = torch.randint(5000, (6, 13))
    optimizer.zero_grad()
    F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()
