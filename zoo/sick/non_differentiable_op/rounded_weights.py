# expect: non-differentiable-op at rounded_weights.py:17 since step 0
# twin: healthy/quantization/straight_through.py
"""Quantisation-aware training without a straight-through estimator: round has a derivative of zero."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class QuantLinear(nn.Linear):
    def forward(self, x):
        scale = self.weight.detach().abs().max() / 127
        quantized = torch.round(self.weight / scale) * scale
        return F.linear(x, quantized, self.bias)


model = nn.Sequential(QuantLinear(10, 32), nn.ReLU(), QuantLinear(32, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = optim.SGD(model.parameters(), lr=0.05)
for step in range(20):
    x, y = torch.randn(32, 10), torch.randint(3, (32,))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
