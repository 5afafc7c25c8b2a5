# expect: nothing
"""An auxiliary loss whose weight is zero for the first fifteen steps."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Trainer:
    def __init__(self):
        self.encoder, self.decoder = nn.Linear(12, 16), nn.Linear(16, 12)
        self.classifier = nn.Sequential(nn.ReLU(), nn.Linear(16, 3))
        self.model = nn.ModuleList([self.encoder, self.decoder, self.classifier])
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def step(self, x, weight):
        h = self.encoder(x)
        loss = F.cross_entropy(self.classifier(h), x[:, :3].argmax(1)) + weight * F.mse_loss(self.decoder(h), x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


trainer = Trainer()
for step in range(40):
    trainer.step(torch.randn(32, 12), weight=max(0.0, (step - 15) / 25))
