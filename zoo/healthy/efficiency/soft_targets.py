# expect: nothing
"""cross_entropy with the teacher's probabilities as soft targets."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
teacher = nn.Linear(8, 4).requires_grad_(False)
student = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
optimizer = optim.SGD(student.parameters(), lr=0.1)
for _ in range(30):
    x = torch.randn(24, 8)
    optimizer.zero_grad()
    F.cross_entropy(student(x), teacher(x).softmax(1)).backward()
    optimizer.step()
