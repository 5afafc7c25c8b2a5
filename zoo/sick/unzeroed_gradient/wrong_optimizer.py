# expect: unzeroed-gradient at wrong_optimizer.py:37 since step 1
"""Two optimizers, one for the embedding and one for the rest; only one of them clears its gradients."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class TextClassifier(nn.Module):
    def __init__(self, vocab=50, dim=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.lstm = nn.LSTM(dim, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, tokens):
        _, (hidden, _) = self.lstm(self.embedding(tokens))
        return self.head(hidden[-1])

    def body(self):
        return [*self.lstm.parameters(), *self.head.parameters()]


model = TextClassifier()
slow = optim.SGD(model.embedding.parameters(), lr=0.01)
fast = optim.Adam(model.body(), lr=1e-3)
for _ in range(20):
    tokens, labels = torch.randint(50, (8, 12)), torch.randint(3, (8,))
    slow.zero_grad()
    loss = F.cross_entropy(model(tokens), labels)
    loss.backward()
    slow.step()
    fast.step()
