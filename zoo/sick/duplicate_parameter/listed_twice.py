# expect: duplicate-parameter at listed_twice.py:31 in encoder.* since step 0
"""A list of parameters that holds the encoder twice: by itself, and as a part of the model."""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
warnings.filterwarnings("ignore")


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.decoder = nn.Linear(16, 8)

    def forward(self, x):
        return self.decoder(self.encoder(x))


model = Model()
optimizer = optim.SGD([*model.encoder.parameters(), *model.parameters()], lr=0.05)
for _ in range(20):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    F.mse_loss(model(x), x).backward()
    optimizer.step()
