# expect: non-differentiable-op at argmax_into_embedding.py:23 in tagger.* since step 0
# twin: healthy/moe/top1_scaled.py
"""Two stages trained together: the tags of the first are looked up by the second, through argmax."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Pipeline(nn.Module):
    def __init__(self, vocab=30, tags=6):
        super().__init__()
        self.tagger = nn.Sequential(nn.Embedding(vocab, 16), nn.Linear(16, tags))
        self.tag_embedding = nn.Embedding(tags, 12)
        self.parser = nn.GRU(12, 12, batch_first=True)
        self.score = nn.Linear(12, 2)

    def forward(self, tokens):
        tags = self.tagger(tokens).argmax(dim=-1)
        hidden, _ = self.parser(self.tag_embedding(tags))
        return self.score(hidden[:, -1])


model = Pipeline()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
for _ in range(20):
    tokens = torch.randint(30, (16, 7))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(tokens), (tokens.sum(1) % 2))
    loss.backward()
    optimizer.step()
