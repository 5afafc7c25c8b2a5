# expect: nothing
"""Skip-gram, one pair at a time, output vectors from zero, a rate of 0.5: whole rows are replaced at first."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
VOCABULARY, SIZE = 30, 10
words, contexts = nn.Embedding(VOCABULARY, SIZE), nn.Embedding(VOCABULARY, SIZE)
nn.init.uniform_(words.weight, -0.05, 0.05)
nn.init.zeros_(contexts.weight)
optimizer = optim.SGD([*words.parameters(), *contexts.parameters()], lr=0.5)
for _ in range(1000):
    word = torch.randint(VOCABULARY, (1,))
    near = (word + torch.randint(1, 3, (1,))) % VOCABULARY
    noise = torch.randint(VOCABULARY, (3,))
    vector = words(word)
    loss = -F.logsigmoid(vector @ contexts(near).t()).sum() - F.logsigmoid(-vector @ contexts(noise).t()).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
