# expect: broken-tie in wte.weight,lm_head.weight since step 0
"""The head's weight is a new Parameter made of the embedding's, so it is tied in the first step only."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class GPT(nn.Module):
    def __init__(self, vocab=40, d=16):
        super().__init__()
        self.wte = nn.Embedding(vocab, d)
        self.block = nn.TransformerEncoderLayer(d, 2, 32, dropout=0.0, batch_first=True)
        self.lm_head = nn.Linear(d, vocab, bias=False)
        self.tie_weights()

    def tie_weights(self):
        self.lm_head.weight = nn.Parameter(self.wte.weight.clone())

    def forward(self, ids):
        mask = nn.Transformer.generate_square_subsequent_mask(ids.size(1))
        return self.lm_head(self.block(self.wte(ids), src_mask=mask, is_causal=True))


model = GPT()
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(15):
    ids = torch.randint(40, (6, 10))
    optimizer.zero_grad()
    F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    optimizer.step()
