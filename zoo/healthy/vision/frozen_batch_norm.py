# expect: nothing
"""Fine-tuning with batch norm frozen: its modules in eval mode, its parameters without gradients, the rest trains."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.box, self.score = nn.Linear(16, 4), nn.Linear(16, 1)

    def train(self, mode=True):
        super().train(mode)
        for m in self.backbone.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
                m.requires_grad_(False)
        return self

    def forward(self, x):
        h = self.backbone(x).mean((2, 3))
        return self.box(h), self.score(h).squeeze(1)


model = Detector().train()
optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
for step in range(15):
    boxes, objectness = model(torch.randn(8, 3, 24, 24))
    loss = F.smooth_l1_loss(boxes, torch.rand(8, 4)) + F.binary_cross_entropy_with_logits(
        objectness, torch.randint(2, (8,)).float()
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
