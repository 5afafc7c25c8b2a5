# expect: dead-units at decibels.py:37 in front.*,back.* since step 0
"""Spectrograms in decibels are negative throughout, and `uniform_` draws weights from 0 to 1: no unit is active."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


@dataclass
class Config:
    bands: int = 32
    width: int = 64
    classes: int = 5
    lr: float = 3e-4
    steps: int = 30


class KeywordSpotter(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.front = nn.Conv1d(config.bands, config.width, 5)
        self.back = nn.Conv1d(config.width, config.width, 5)
        self.fc = nn.Linear(config.width, config.classes)
        self.apply(self._init)

    def _init(self, module):
        if isinstance(module, nn.Conv1d):
            nn.init.uniform_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, spectrogram):
        h = F.relu(self.front(spectrogram))
        h = F.relu(self.back(h))
        return self.fc(h.mean(2))


class Trainer:
    def __init__(self, config):
        self.config, self.model = config, KeywordSpotter(config)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=config.lr)

    def batch(self):
        power = torch.rand(16, self.config.bands, 24) + 1e-4
        return 10 * torch.log10(power / power.max()), torch.randint(self.config.classes, (16,))

    def train(self):
        for _ in range(self.config.steps):
            x, y = self.batch()
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()


Trainer(Config()).train()
