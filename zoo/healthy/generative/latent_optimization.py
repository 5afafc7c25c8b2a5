# expect: nothing
"""An auto-decoder: a latent for each sample is learned with the decoder; most latents get no gradient in a step."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class AutoDecoder(nn.Module):
    def __init__(self, n=100, d=4):
        super().__init__()
        self.codes = nn.Embedding(n, d)
        self.net = nn.Sequential(nn.Linear(d + 2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
        nn.init.normal_(self.codes.weight, std=0.01)

    def forward(self, index, points):
        z = self.codes(index)[:, None].expand(-1, points.size(1), -1)
        return self.net(torch.cat([z, points], 2)).squeeze(2)


model = AutoDecoder()
radius = 0.5 + torch.rand(100)
optimizer = optim.Adam(
    [{"params": model.net.parameters(), "lr": 1e-3}, {"params": model.codes.parameters(), "lr": 1e-2}]
)
for _ in range(25):
    index, points = torch.randint(100, (8,)), torch.rand(8, 32, 2) * 2 - 1
    distance = (points.norm(dim=2) - radius[index, None]).clamp(-0.1, 0.1)
    predicted = model(index, points).clamp(-0.1, 0.1)
    loss = F.l1_loss(predicted, distance) + 1e-4 * model.codes(index).square().sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
