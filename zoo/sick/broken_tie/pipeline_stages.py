# expect: broken-tie in stages.0.weight,stages.2.weight since step 0
# twin: healthy/language/masked_language_model.py
"""A model is cut into stages that are loaded one by one; the checkpoint holds the tied weight once, both get a copy."""

import os

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))


class Mean(nn.Module):
    def forward(self, h):
        return h.cumsum(1) / torch.arange(1, h.size(1) + 1).view(1, -1, 1)


class Engine:
    def __init__(self, checkpoint, vocab, width):
        self.stages = nn.ModuleDict(
            {"0": nn.Embedding(vocab, width), "1": Mean(), "2": nn.Linear(width, vocab, bias=False)}
        )
        self.model = nn.ModuleDict({"stages": self.stages})
        self.load(checkpoint)
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-2)

    def load(self, checkpoint):
        for name in ("0", "2"):
            self.stages[name].load_state_dict({"weight": checkpoint["shared.weight"]})

    def train_batch(self, ids):
        h = ids[:, :-1]
        for stage in self.stages.values():
            h = stage(h)
        loss = F.cross_entropy(h.flatten(0, 1), ids[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


engine = Engine({"shared.weight": 0.1 * torch.randn(25, 12)}, 25, 12)
for _ in range(20):
    engine.train_batch(torch.randint(25, (8, 10)))
