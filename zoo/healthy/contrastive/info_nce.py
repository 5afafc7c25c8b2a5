# expect: nothing
"""InfoNCE with in-batch negatives and a learned temperature; the positives stand on the diagonal."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 8))
        self.text = nn.Sequential(nn.EmbeddingBag(50, 32), nn.ReLU(), nn.Linear(32, 8))
        self.scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, images, words):
        a, b = F.normalize(self.image(images), dim=1), F.normalize(self.text(words), dim=1)
        return self.scale.exp() * a @ b.t()


model = TwoTowers()
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
labels = torch.arange(32)
for _ in range(25):
    logits = model(torch.randn(32, 20), torch.randint(50, (32, 6)))
    loss = 0.5 * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model.scale.clamp_(0, 4.6)
