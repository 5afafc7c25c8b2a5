# expect: lost-update at finetuned_bf16.py:36 in embed.*,block.*,head.* since step 0
# twin: healthy/precision/master_weights.py
"""A transformer is loaded in bfloat16 and fine-tuned as it is, with the small rate that fine-tuning asks for."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Classifier(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.embed = nn.Embedding(50, d)
        self.block = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(d, 2)

    @classmethod
    def load(cls, dtype):
        return cls().to(dtype)

    def forward(self, ids):
        return self.head(self.block(self.embed(ids)).mean(1)).float()


model = Classifier.load(torch.bfloat16)
optimizer = optim.AdamW(model.parameters(), lr=2e-6, weight_decay=0.01)
for _ in range(25):
    ids = torch.randint(50, (16, 12))
    loss = F.cross_entropy(model(ids), (ids[:, 0] > 25).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
