# expect: training-in-eval-mode at dropout_transformer.py:20 in 1.layers.* since step 0
"""train(False) where train() was meant, in a transformer with dropout."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)
encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
model = nn.Sequential(nn.Embedding(30, 16), encoder, nn.Linear(16, 30))
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
model.train(False)
for _ in range(15):
    ids = torch.randint(30, (4, 10))
    optimizer.zero_grad()
    F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    optimizer.step()
