# expect: detached-tensor at distillation_wrong_side.py:21 in student.features.* since step 0
# twin: healthy/efficiency/distillation.py
"""Distillation of features: no_grad was meant for the teacher and is around both."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Tower(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.features(x)


class Distiller(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.student = Tower(64).requires_grad_(False), Tower(16)

    def forward(self, x):
        with torch.no_grad():
            goal = self.teacher(x)
            code = self.student(x)
        soft = self.teacher.head(goal).softmax(1)
        return F.cross_entropy(self.student.head(code), soft) + F.mse_loss(code, goal)


model = Distiller()
optimizer = optim.Adam(model.student.parameters(), lr=1e-3)
for _ in range(15):
    optimizer.zero_grad()
    model(torch.randn(32, 10)).backward()
    optimizer.step()
