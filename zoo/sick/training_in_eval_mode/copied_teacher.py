# expect: training-in-eval-mode at copied_teacher.py:37 in norm,drop since step 0
# twin: healthy/efficiency/distillation.py
"""The student begins as a copy of the teacher, which was in eval mode already, and trains in it."""

import copy
import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.2)
        self.head = nn.Linear(8, 4)

    def features(self, x):
        return F.relu(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x):
        return self.head(self.drop(self.features(x)))


teacher = Net().eval().requires_grad_(False)
student = copy.deepcopy(teacher).requires_grad_(True)
nn.init.xavier_uniform_(student.head.weight)
optimizer = optim.SGD(student.parameters(), lr=0.05)
for _ in range(20):
    images = torch.rand(16, 1, 10, 10)
    loss = F.kl_div(student(images).log_softmax(1), teacher(images).softmax(1), reduction="batchmean")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
