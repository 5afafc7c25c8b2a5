# expect: training-in-eval-mode at sampling_language_model.py:39 in drop since step 6
# twin: healthy/loops/monte_carlo_dropout.py
"""A language model shows a sample every six steps; sample() switches to eval mode and leaves it there."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class CharLM(nn.Module):
    def __init__(self, vocab=26, d=24):
        super().__init__()
        self.embed, self.drop = nn.Embedding(vocab, d), nn.Dropout(0.3)
        self.gru, self.head = nn.GRU(d, d, batch_first=True), nn.Linear(d, vocab)

    def forward(self, ids):
        return self.head(self.drop(self.gru(self.drop(self.embed(ids)))[0]))

    @torch.no_grad()
    def sample(self, length=8):
        self.eval()
        ids = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(length):
            ids = torch.cat([ids, self(ids)[:, -1].softmax(1).multinomial(1)], 1)
        return ids


lm = CharLM()
optimizer = optim.AdamW(lm.parameters(), lr=2e-3)
for step in range(24):
    ids = torch.randint(26, (12, 14))
    loss = F.cross_entropy(lm(ids[:, :-1]).transpose(1, 2), ids[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 6 == 5:
        lm.sample()
