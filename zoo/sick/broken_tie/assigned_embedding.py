# expect: broken-tie in embed.weight,head.weight since step 0
# twin: healthy/language/tiny_gpt.py
"""A tied head that is untied by loading with assign=True."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class LM(nn.Module):
    def __init__(self, vocab=30, d=16):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.rnn = nn.GRU(d, d, batch_first=True)
        self.head = nn.Linear(d, vocab, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


saved = {name: value.clone() for name, value in LM().state_dict().items()}
model = LM()
model.load_state_dict(saved, assign=True)
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(20):
    ids = torch.randint(30, (8, 9))
    optimizer.zero_grad()
    F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    optimizer.step()
