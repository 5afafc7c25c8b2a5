# expect: nothing
"""Mean teacher: few labels, and consistency with an averaged teacher whose weight ramps up from zero."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
student = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.detach_()
optimizer = optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True)
for step in range(40):
    x = torch.randn(32, 10)
    y = x[:4, :3].argmax(1)
    logits, goal = student(x), teacher(x + 0.1 * torch.randn_like(x))
    ramp = min(1.0, step / 20)
    loss = F.cross_entropy(logits[:4], y) + ramp * F.mse_loss(logits.softmax(1), goal.softmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.data.mul_(0.95).add_(s.data, alpha=0.05)
