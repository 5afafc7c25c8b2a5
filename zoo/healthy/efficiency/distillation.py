# expect: nothing
"""Distillation: the teacher's softmax at a temperature is the target, and the student gives logits."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 5))

    def forward(self, x):
        return self.layers(x)


teacher, student = Net(64).eval(), Net(8)
optimizer = optim.Adam(student.parameters(), lr=5e-3)
T = 4.0
for _ in range(30):
    x = torch.randn(32, 12)
    with torch.no_grad():
        soft = F.softmax(teacher(x) / T, dim=1)
    logits = student(x)
    kd = F.kl_div(F.log_softmax(logits / T, dim=1), soft, reduction="batchmean") * T * T
    loss = 0.7 * kd + 0.3 * F.cross_entropy(logits, soft.argmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
