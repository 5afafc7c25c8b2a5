# expect: detached-tensor at graph_features.py:25 in embed.* since step 0
# twin: healthy/graphs/message_passing.py
"""A graph network whose node features are copied into a fresh tensor, row by row, by torch.tensor."""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(int(os.environ.get("SEED", 0)))
warnings.filterwarnings("ignore")
edges = torch.randint(20, (2, 60))


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.message = nn.Linear(16, 16)
        self.readout = nn.Linear(16, 3)

    def forward(self, x):
        h = torch.tensor(F.relu(self.embed(x)))
        source, target = edges
        pooled = torch.zeros_like(h).index_add(0, target, self.message(h)[source])
        return self.readout(F.relu(h + pooled))


x, y = torch.randn(20, 5), torch.randint(3, (20,))
model = GraphNet()
optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for epoch in range(20):
    optimizer.zero_grad()
    loss = F.nll_loss(F.log_softmax(model(x), dim=1), y)
    loss.backward()
    optimizer.step()
