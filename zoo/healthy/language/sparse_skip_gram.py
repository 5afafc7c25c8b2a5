# expect: nothing
"""Word vectors with negative sampling, sparse gradients and SparseAdam."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class SkipGram(nn.Module):
    def __init__(self, vocab=300, d=16):
        super().__init__()
        self.center = nn.Embedding(vocab, d, sparse=True)
        self.context = nn.Embedding(vocab, d, sparse=True)
        nn.init.uniform_(self.center.weight, -0.5 / d, 0.5 / d)
        nn.init.zeros_(self.context.weight)

    def forward(self, center, context, negatives):
        v = self.center(center)
        positive = F.logsigmoid((v * self.context(context)).sum(1))
        negative = F.logsigmoid(-(self.context(negatives) @ v.unsqueeze(2)).squeeze(2)).sum(1)
        return -(positive + negative).mean()


model = SkipGram()
optimizer = optim.SparseAdam(list(model.parameters()), lr=0.01)
for step in range(30):
    loss = model(torch.randint(300, (32,)), torch.randint(300, (32,)), torch.randint(300, (32, 5)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
