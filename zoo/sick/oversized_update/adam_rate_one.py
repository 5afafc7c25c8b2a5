# expect: oversized-update at adam_rate_one.py:23 by step 12
# twin: healthy/loops/warm_up_from_tiny.py
"""Adam with a learning rate of one, in a transformer."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self, model, lr):
        self.model, self.optimizer = model, optim.Adam(model.parameters(), lr=lr)

    def fit(self, steps):
        for _ in range(steps):
            ids = torch.randint(20, (8, 8))
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(ids).flatten(0, 1), ids.flatten()).backward()
            self.optimizer.step()


layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
model = nn.Sequential(nn.Embedding(20, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 20))
Trainer(model, lr=1.0).fit(20)
