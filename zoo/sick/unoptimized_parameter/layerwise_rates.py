# expect: unoptimized-parameter at layerwise_rates.py:56 in layers.3.* since step 0
# twin: healthy/transfer/discriminative_rates.py
"""Each layer gets a rate of its own, and the range that makes the groups ends one too early."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    depth: int = 4
    width: int = 16
    lr: float = 1e-3
    decay: float = 0.8
    steps: int = 25


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.stem = nn.Linear(6, config.width)
        self.layers = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.depth))
        self.head = nn.Linear(config.width, 3)

    def forward(self, x):
        h = self.stem(x)
        for layer in self.layers:
            h = h + F.gelu(layer(h))
        return self.head(h)


class FineTuner:
    def __init__(self, model, config):
        self.model, self.config = model, config
        self.optimizer = optim.AdamW(self.groups(), lr=config.lr)

    def groups(self):
        rate = self.config.lr
        yield {"params": list(self.model.head.parameters()), "lr": rate}
        for index in range(self.config.depth - 1):
            scale = self.config.decay ** (self.config.depth - index)
            yield {"params": list(self.model.layers[index].parameters()), "lr": rate * scale}
        yield {"params": list(self.model.stem.parameters()), "lr": rate * self.config.decay**self.config.depth}

    def fit(self):
        for _ in range(self.config.steps):
            x = torch.randn(16, 6)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), x[:, :3].argmax(1)).backward()
            self.optimizer.step()


config = Config()
FineTuner(Encoder(config), config).fit()
