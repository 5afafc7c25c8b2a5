# expect: loss-input-mismatch at transformer_head.py:32 since step 0
"""A token tagger: softmax over tags in the head, cross entropy with class weights and ignored padding."""

import os

import torch
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Tagger(nn.Module):
    def __init__(self, vocab=40, dim=24, tags=7):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
        layer = nn.TransformerEncoderLayer(dim, 2, 48, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(dim, tags)

    def forward(self, ids):
        return torch.softmax(self.head(self.encoder(self.embedding(ids))), dim=-1)


model = Tagger()
criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 2, 2, 2, 2, 1]), ignore_index=-100)
optimizer = optim.Adam(model.parameters(), lr=5e-4)
for step in range(12):
    ids = torch.randint(1, 40, (6, 10))
    ids[:, 7:] = 0
    tags = torch.where(ids == 0, -100, ids % 7)
    probabilities = model(ids)
    loss = criterion(probabilities.view(-1, 7), tags.view(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
