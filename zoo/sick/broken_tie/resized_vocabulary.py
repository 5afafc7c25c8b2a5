# expect: broken-tie in wte.weight,head.weight since step 0
"""Tokens were added: the table and the head are made anew with the old rows, and are no longer one."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class CausalLM(nn.Module):
    def __init__(self, vocab, d=16):
        super().__init__()
        self.wte, self.head = nn.Embedding(vocab, d), nn.Linear(d, vocab, bias=False)
        self.mixer = nn.Conv1d(d, d, 3)
        self.head.weight = self.wte.weight

    def resize_token_embeddings(self, vocab):
        old, d = self.wte.weight.data, self.wte.embedding_dim
        rows = torch.cat([old, 0.02 * torch.randn(vocab - len(old), d)])
        self.wte = nn.Embedding.from_pretrained(rows.clone(), freeze=False)
        self.head = nn.Linear(d, vocab, bias=False)
        self.head.weight.data = rows

    def forward(self, ids):
        x = F.pad(self.wte(ids).transpose(1, 2), (2, 0))
        return self.head(torch.tanh(self.mixer(x)).transpose(1, 2))


lm = CausalLM(28)
lm.resize_token_embeddings(32)
optimizer = optim.AdamW(lm.parameters(), lr=3e-3)
for _ in range(20):
    ids = torch.randint(32, (8, 12))
    loss = F.cross_entropy(lm(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
