# expect: unused-parameter in answer.* since step 0
# twin: healthy/contrastive/info_nce.py
"""Retrieval with two towers: a slip of the pen encodes the answers by the tower of the questions."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
towers = nn.ModuleDict({"question": nn.EmbeddingBag(60, 16), "answer": nn.EmbeddingBag(60, 16)})
project = nn.Linear(16, 8)
model = nn.ModuleDict({**towers, "project": project})
optimizer = optim.SGD(model.parameters(), lr=0.5)
for step in range(15):
    words = torch.randint(60, (24, 5))
    q = project(towers["question"](words))
    a = project(towers["question"](words.roll(1, 1)[:, :3]))
    loss = F.cross_entropy(q @ a.T, torch.arange(24))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
